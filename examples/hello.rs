//! Two processes say hello. Start `cargo run --example hello -- listen`, then `cargo run --example hello`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("listen") => listen(),
        _ => connect(),
    }
}

fn listen() -> Result<(), Box<dyn Error>> {
    let mut listener = ringway::Listener::bind("hello")?;
    println!("listening on {}", listener.path().display());
    let mut connection = listener.accept()?;
    let greeting = connection.recv()?.to_vec();
    println!("process {} says {}", connection.peer_cred().pid, String::from_utf8_lossy(&greeting));
    connection.send(b"hello, client")?;
    Ok(())
}

fn connect() -> Result<(), Box<dyn Error>> {
    let mut connection = ringway::connect("hello")?;
    connection.send(b"hello, listener")?;
    let answer = connection.recv()?;
    println!("the listener answers {}", String::from_utf8_lossy(&answer));
    Ok(())
}
