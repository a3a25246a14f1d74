//! Sends each line of its input to the example `echo_server` and prints the answers with the time they took.

use std::error::Error;
use std::io::{BufRead, stdin};
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let mut connection = ringway::connect("echo")?;
    for line in stdin().lock().lines() {
        let start = Instant::now();
        connection.send(line?.as_bytes())?;
        let answer = connection.recv()?;
        println!("{} ({:?})", String::from_utf8_lossy(&answer), start.elapsed());
    }
    Ok(())
}
