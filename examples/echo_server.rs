//! Answers every message of any number of clients with itself, in one thread. Try it with the example `echo_client`.

use ringway::{Event, Group, Listener};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut group = Group::new(Listener::bind("echo")?)?;
    println!("listening on {}; stop with Ctrl-C", group.listener().path().display());
    loop {
        group.turn(None, |client, event| match event {
            Event::Joined => {
                println!("client {} is process {}", client.id().number(), client.peer_cred().pid)
            }
            Event::Message(bytes) => {
                // A client with a full ring does not read its answers; the others must not wait for it.
                if let Err(error) = client.sender().try_send(bytes) {
                    println!("client {}: {error}", client.id().number());
                }
            }
            Event::Room => {}
            Event::Left(reason) => println!("client {}: {reason}", client.id().number()),
        })?;
    }
}
