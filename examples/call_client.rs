//! Asks the example `call_server` questions about prime numbers.

mod primes;

use primes::{ASKED, FACTOR, IS_PRIME, Number, PRIMES};
use ringway::rpc::{CallError, Client, Decode, Typed};
use std::error::Error;
use std::time::Duration;

/// Asks all it can, and returns what it learned, a line each.
pub fn ask(name: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let mut learned = Vec::new();
    let client = Client::connect(name)?;

    // Values in, values out. All threads and all forms of a client share one connection.
    let is_prime: Typed<Number, Number> = client.typed(IS_PRIME);
    let answers = std::thread::scope(|scope| {
        let ask = |number| is_prime.call(&Number(number));
        let calls = [7, 91].map(|number| scope.spawn(move || ask(number)));
        calls.map(|call| call.join().expect("no call panics"))
    });
    for (number, answer) in [7, 91].iter().zip(answers) {
        learned.push(format!("{number} is {}", if answer?.0 == 1 { "prime" } else { "not prime" }));
    }

    // A failure that the server answers has a code and a text.
    if let Err(CallError::Failed(failure)) = is_prime.call(&Number(u64::MAX)) {
        learned.push(format!("{failure}"));
    }

    // With a deadline, which the server knows too. It does no harm to ask twice, should the server be restarted meanwhile.
    let factor = |number| {
        let request = client.request(FACTOR).timeout(Duration::from_millis(200)).idempotent(true);
        request.call(&Number(number))?.decode::<Number>()
    };
    learned.push(format!("91 has the factor {}", factor(91)?.0));
    // Whoever notices first says so.
    if let Err(CallError::Timeout { .. } | CallError::Failed(_)) = factor(18_446_744_073_709_551_557) {
        learned.push("one number takes too long".to_owned());
    }

    // Part by part, without end: dropping the stream stops the server.
    let primes = client.call_stream(PRIMES, &Number(100))?.take(5);
    let primes =
        primes.map(|part| Ok(Number::decode(&part?)?.0)).collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    learned.push(format!("primes from 100 on: {primes:?}"));

    let Number(asked) = client.call(ASKED, &())?.decode()?;
    learned.push(format!("the server was asked for {asked} factors"));
    Ok(learned)
}

fn main() -> Result<(), Box<dyn Error>> {
    ask("primes")?.iter().for_each(|line| println!("{line}"));
    Ok(())
}
