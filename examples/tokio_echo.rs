//! A tokio program over a Unix socket that was moved to ringway by two lines: the import and the `mut` of the listener.
//!
//! `cargo run --features tokio --example tokio_echo -- serve NAME`, and in another terminal `-- call NAME hello`.

// Was: use tokio::net::{UnixListener, UnixStream};
use ringway::tokio::{ByteListener as UnixListener, ByteStream as UnixStream};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Gives everybody back what they send.
pub async fn serve(name: &str) -> io::Result<()> {
    // Was: let listener = ..
    let mut listener = UnixListener::bind(name)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let (mut reader, mut writer) = stream.into_split();
            tokio::io::copy(&mut reader, &mut writer).await
        });
    }
}

/// Sends a text, says that it was all, and returns what comes back.
pub async fn call(name: &str, text: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(name).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", name] => serve(name).await,
        ["call", name, text] => {
            println!("{}", call(name, text).await?);
            Ok(())
        }
        _ => Err(io::Error::other("say: serve NAME, or: call NAME TEXT")),
    }
}
