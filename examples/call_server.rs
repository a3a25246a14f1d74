//! Answers questions about prime numbers. Try it with the example `call_client`.

mod primes;

use primes::{ASKED, FACTOR, IS_PRIME, Number, PRIMES, factor, is_prime};
use ringway::rpc::{Code, Decode, Failure, Server};
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Serves at this name until the server is dropped.
pub fn serve(name: &str) -> Result<Server, ringway::BindError> {
    Server::with_state(AtomicU64::new(0))
        // Values in, values out, on the thread that serves; what is no number never gets here.
        .handle_typed(IS_PRIME, |Number(number)| {
            if number > 1 << 32 {
                return Err(Failure::new(Code::OUT_OF_RANGE, "that takes long; ask for its factor"));
            }
            Ok(Number(u64::from(is_prime(number))))
        })
        // May take long: on a thread for such work. When the time of the caller is up, nobody waits for it.
        .handle_blocking(FACTOR, |request| {
            request.state().fetch_add(1, Relaxed);
            let Number(number) = decode(request.body())?;
            let factor = factor(number, || request.is_cancelled());
            factor.map(bytes).ok_or_else(|| Failure::new(Code::CANCELLED, "nobody waits for it"))
        })
        // Only as many as the client takes are ever made.
        .handle_iter(PRIMES, |request| {
            let (start, failure) = decode(request.body()).map_or_else(|e| (0, Some(Err(e))), |n| (n.0, None));
            failure
                .into_iter()
                .chain((start..).filter(|number| is_prime(*number)).map(|number| Ok(bytes(number))))
        })
        // What the handlers share.
        .handle(ASKED, |request, reply| {
            reply.write(&bytes(request.state().load(Relaxed)));
            Ok(())
        })
        .bind(name)
}

fn decode(body: &[u8]) -> Result<Number, Failure> {
    Number::decode(body).map_err(|error| Failure::new(Code::INVALID_ARGUMENT, error.to_string()))
}

fn bytes(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

fn main() -> Result<(), Box<dyn Error>> {
    let server = serve("primes")?;
    println!("serving at {}; stop with Enter", server.path().display());
    std::io::stdin().read_line(&mut String::new())?;
    let monitor = server.monitor();
    println!("{:?}: {:?}", server.shutdown(Duration::from_secs(1)), monitor.stats());
    Ok(())
}
