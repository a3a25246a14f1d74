//! Calls with values, against the server of this library in another process.
#![cfg(all(feature = "zerocopy", feature = "serde", feature = "rkyv"))]
#![allow(clippy::unwrap_used, reason = "what fails in a test may panic")]

mod common;

use common::{Peer, hang_guard, hear, say, scratch_dir};
use ringway::rpc::{CallError, Client, Code, Decode, Encode, Failure, Postcard, Rkyv, Server, Zerocopy};
use std::time::Duration;
use zerocopy::{Immutable, IntoBytes, TryFromBytes};

#[derive(Debug, Clone, Copy, PartialEq, IntoBytes, TryFromBytes, Immutable)]
#[repr(C)]
struct Reading {
    sensor: u32,
    valid: bool,
    unused: [u8; 3],
    value: f64,
}

const ZEROCOPY: u16 = 1;
const POSTCARD: u16 = 2;
const RKYV: u16 = 3;
const BYTES: u16 = 4;
const PARTS: u16 = 5;

#[test]
fn peer_process() {
    common::run_role(&[("server", role_server)]);
}

/// Makes of a request a response as a handler of values does.
fn transformed<Request: Decode, Answer: Encode>(
    body: &[u8],
    work: impl FnOnce(Request) -> Answer,
) -> Result<Vec<u8>, Failure> {
    let invalid = |error: ringway::rpc::BodyError| Failure::new(Code::INVALID_ARGUMENT, error.to_string());
    let answer = work(Request::decode(body).map_err(invalid)?);
    let mut buffer = Vec::new();
    Ok(answer.encode(&mut buffer).map_err(invalid)?.to_vec())
}

fn role_server() {
    let server = Server::builder()
        .handle(ZEROCOPY, |request, reply| {
            let double = |Zerocopy(reading): Zerocopy<Reading>| {
                Zerocopy(Reading { value: 2.0 * reading.value, ..reading })
            };
            reply.write(&transformed(request.body(), double)?);
            Ok(())
        })
        .handle(POSTCARD, |request, reply| {
            let count = |Postcard(words): Postcard<Vec<String>>| Postcard((words.len(), words.concat()));
            reply.write(&transformed(request.body(), count)?);
            Ok(())
        })
        .handle(RKYV, |request, reply| {
            let sort = |Rkyv(mut words): Rkyv<Vec<String>>| {
                words.sort();
                Rkyv(words)
            };
            reply.write(&transformed(request.body(), sort)?);
            Ok(())
        })
        .handle(BYTES, |request, reply| {
            reply.write(request.body());
            Ok(())
        })
        .bind(&common::variable("SOCKET"))
        .unwrap();
    say("ready");
    hear();
    drop(server);
}

fn with_client(test: impl FnOnce(Client)) {
    let _guard = hang_guard();
    let scratch = scratch_dir();
    let socket = scratch.socket("test");
    let mut server = Peer::spawn("server", &[("SOCKET", &socket)]);
    server.expect_line("ready");
    test(Client::builder().without_checksum(true).connect(&socket).unwrap());
    server.send_line("end");
    server.finish();
}

fn words() -> Vec<String> {
    ["to", "be", "or", "not", "to be"].map(str::to_owned).to_vec()
}

#[test]
fn values_travel_in_every_form() {
    with_client(|client| {
        let reading = Reading { sensor: 7, valid: true, unused: [0; 3], value: 20.5 };
        let doubled = client.typed::<_, Zerocopy<Reading>>(ZEROCOPY);
        assert_eq!(doubled.call(&Zerocopy(reading)).unwrap().0, Reading { value: 41.0, ..reading });
        let counted = client.typed::<_, Postcard<(usize, String)>>(POSTCARD);
        assert_eq!(counted.call(&Postcard(words())).unwrap().0, (5, "tobeornotto be".to_owned()));
        let sorted = client.typed::<_, Rkyv<Vec<String>>>(RKYV);
        assert_eq!(sorted.call(&Rkyv(words())).unwrap().0, ["be", "not", "or", "to", "to be"]);
    });
}

#[test]
fn bytes_that_are_no_value_are_errors_on_both_sides() {
    with_client(|client| {
        for kind in [ZEROCOPY, POSTCARD, RKYV] {
            let error = client.call(kind, b"\xFF\xFF\xFF").unwrap_err();
            assert_eq!(error.failure().unwrap().code(), Code::INVALID_ARGUMENT);
        }
        let mut flag = Zerocopy(Reading { sensor: 7, valid: true, unused: [0; 3], value: 20.5 })
            .encode(&mut Vec::new())
            .unwrap()
            .to_vec();
        flag[4] = 2;
        let response = client.call(BYTES, &flag).unwrap();
        let wrong: [CallError; 3] = [
            response.decode::<Zerocopy<Reading>>().unwrap_err(),
            response.decode::<Postcard<Vec<String>>>().unwrap_err(),
            response.decode::<Rkyv<Vec<String>>>().unwrap_err(),
        ];
        for error in wrong {
            assert!(matches!(error, CallError::Body(_)) && error.may_have_run(), "{error:?}");
        }
    });
}

#[test]
fn a_server_without_a_handler_says_so() {
    with_client(|client| {
        let error = client.call_timeout(PARTS, &(), Duration::from_secs(10)).unwrap_err();
        assert_eq!(error.failure().unwrap().code(), Code::UNIMPLEMENTED);
    });
}
