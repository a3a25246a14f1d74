//! The examples that serve do so between two processes.
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

#[allow(dead_code, reason = "its main is for people")]
#[path = "../examples/axum_http.rs"]
mod axum_http;
mod common;
#[allow(dead_code, reason = "its main is for people")]
#[path = "../examples/tokio_echo.rs"]
mod tokio_echo;

use common::{Peer, check, hang_guard, message, scratch_dir, wait_until};

#[test]
fn peer_process() {
    common::run_role(&[("axum", role_axum), ("echo", role_echo)]);
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Starts a server, calls it with the path of its socket, and kills it.
fn served_by(role: &str, call: impl FnOnce(&str)) {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let mut peer = Peer::spawn(role, &[("SOCKET", &socket)]);
    wait_until("the server listens", || std::path::Path::new(&socket).exists());
    call(&socket);
    peer.kill9();
}

#[test]
fn http_goes_over_ringway() {
    served_by("axum", |socket| {
        let body = message(1, 1_000_000);
        let requests = [("/hello/you", None), ("/echo", Some(body.into())), ("/nothing", None)];
        let answers = block_on(axum_http::call(socket, &requests)).unwrap();
        let statuses: Vec<u16> = answers.iter().map(|(status, _)| status.as_u16()).collect();
        assert_eq!(statuses, [200, 200, 404]);
        assert_eq!(&*answers[0].1, b"hello, you");
        check(&answers[1].1, 1, 1_000_000);
    });
}

#[test]
fn a_program_for_unix_sockets_goes_over_ringway_with_two_lines_changed() {
    served_by("echo", |socket| {
        for text in ["hello", "", &"long".repeat(100_000)] {
            assert_eq!(block_on(tokio_echo::call(socket, text)).unwrap(), text);
        }
    });
}

fn role_axum() {
    block_on(axum_http::serve(&common::variable("SOCKET"))).unwrap();
}

fn role_echo() {
    block_on(tokio_echo::serve(&common::variable("SOCKET"))).unwrap();
}
