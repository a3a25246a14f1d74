//! What a server with many clients needs: descriptors, processors, memory nodes.

use super::report::{Finding, State};
use ringway::Platform;

/// Looks at all of it.
pub fn findings(platform: &Platform) -> Vec<Finding> {
    vec![descriptors(platform), workers(platform), memory_nodes(platform)]
}

fn descriptors(platform: &Platform) -> Finding {
    let (soft, hard) = (platform.descriptors_soft, platform.descriptors_hard);
    let found = format!(
        "{} now, {} at most, which a server takes by itself: room for {}",
        limit_text(soft),
        limit_text(hard),
        connections_text(hard),
    );
    let finding = |state| Finding::new(GROUP, "open descriptors", state).found(found);
    if connections_within(hard) >= CONNECTIONS_DEFAULT {
        return finding(State::Ok);
    }
    finding(State::Missing)
        .instead(format!("a server lets in as many as fit, not {CONNECTIONS_DEFAULT}"))
        .fix(format!("ulimit -Hn {DESCRIPTORS_ENOUGH} before it starts, or LimitNOFILE={DESCRIPTORS_ENOUGH} in its unit"))
}

fn workers(platform: &Platform) -> Finding {
    let found = match platform.cpus {
        1 => "1 processor: one worker, and every answer waits for a switch to it".to_owned(),
        cpus => format!("{cpus} processors: as many workers unless told otherwise, clients share them too"),
    };
    Finding::new(GROUP, "workers", State::Info).found(found)
}

fn memory_nodes(platform: &Platform) -> Finding {
    let found = match platform.memory_nodes {
        1 => "1: all memory is equally near".to_owned(),
        nodes => format!("{nodes}: pinned workers take turns on them, each with its memory near"),
    };
    Finding::new(GROUP, "memory nodes", State::Info).found(found)
}

/// Returns how many connections a server has room for that may have so many descriptors.
fn connections_within(descriptors: u64) -> u64 {
    descriptors.saturating_sub(DESCRIPTORS_FIXED) / DESCRIPTORS_PER_CONNECTION
}

fn connections_text(descriptors: u64) -> String {
    match connections_within(descriptors).min(CONNECTIONS_MAX) {
        CONNECTIONS_MAX => format!("{CONNECTIONS_MAX} connections, the most"),
        connections => format!("{connections} connections"),
    }
}

fn limit_text(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() }
}

const GROUP: &str = "a server with many clients";
/// What a listener lets in unless told otherwise.
const CONNECTIONS_DEFAULT: u64 = 1024;
/// What it may be told.
const CONNECTIONS_MAX: u64 = 65_536;
/// Socket, doorbell, the peer's process, and a segment; as the listener counts.
const DESCRIPTORS_PER_CONNECTION: u64 = 4;
/// What it sets aside for everything else.
const DESCRIPTORS_FIXED: u64 = 256;
const DESCRIPTORS_ENOUGH: u64 = DESCRIPTORS_FIXED + CONNECTIONS_DEFAULT * DESCRIPTORS_PER_CONNECTION;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_are_noted_with_a_command() {
        let mut platform = ringway::platform();
        (platform.descriptors_soft, platform.descriptors_hard) = (256, 1024);
        let text = serde_json::to_string(&descriptors(&platform)).unwrap();
        assert!(text.contains("missing") && text.contains("ulimit -Hn 4352"), "{text}");
        assert!(text.contains("256 now, 1024 at most") && text.contains("192 connections"), "{text}");
        platform.descriptors_hard = 4352;
        let text = serde_json::to_string(&descriptors(&platform)).unwrap();
        assert!(text.contains("\"ok\"") && text.contains("1024 connections"), "{text}");
        platform.descriptors_hard = u64::MAX;
        let text = serde_json::to_string(&descriptors(&platform)).unwrap();
        assert!(text.contains("unlimited at most") && text.contains("65536 connections, the most"), "{text}");
    }
}
