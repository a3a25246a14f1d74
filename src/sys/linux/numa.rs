//! Memory nodes: which processors are near which memory.

use super::cpu::{allowed_cpus, listed};
use std::fs;

/// Returns the processors that this thread may use, taking turns on the memory nodes: neighbours in this list share as
/// little as possible. Ascending where there is one node.
pub(crate) fn cpus_across_nodes() -> Vec<usize> {
    take_turns(&allowed_cpus(), &nodes())
}

/// Returns how many memory nodes have processors; at least 1.
pub(crate) fn node_count() -> usize {
    nodes().len().max(1)
}

/// Returns the processors of each node that has some; empty if the kernel does not tell.
fn nodes() -> Vec<Vec<usize>> {
    let read = |path: String| fs::read_to_string(path).ok().and_then(|list| listed(&list));
    let numbers = read(format!("{NODES}/has_cpu")).unwrap_or_default();
    let cpus = numbers.into_iter().filter_map(|number| read(format!("{NODES}/node{number}/cpulist")));
    cpus.filter(|cpus| !cpus.is_empty()).collect()
}

/// Orders processors so that each node has its turn; those of no known node come last.
fn take_turns(allowed: &[usize], nodes: &[Vec<usize>]) -> Vec<usize> {
    let near: Vec<Vec<usize>> =
        nodes.iter().map(|node| allowed.iter().copied().filter(|cpu| node.contains(cpu)).collect()).collect();
    let longest = near.iter().map(Vec::len).max().unwrap_or(0);
    let mut cpus: Vec<usize> =
        (0..longest).flat_map(|turn| near.iter().filter_map(move |node| node.get(turn).copied())).collect();
    cpus.extend(allowed.iter().filter(|cpu| !nodes.iter().any(|node| node.contains(cpu))));
    cpus
}

const NODES: &str = "/sys/devices/system/node";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_take_turns_and_every_allowed_processor_comes_once() {
        let two = [vec![0, 1, 2, 3], vec![4, 5, 6, 7]];
        assert_eq!(take_turns(&[0, 1, 4, 5, 6], &two), [0, 4, 1, 5, 6]);
        assert_eq!(take_turns(&[6, 9], &two), [6, 9], "a processor of no node");
        assert_eq!(take_turns(&[0, 1, 2], &[vec![0, 1, 2]]), [0, 1, 2]);
        assert_eq!(take_turns(&[0, 1], &[]), [0, 1], "the kernel does not tell");
    }

    #[test]
    fn no_processor_of_this_machine_is_forgotten() {
        assert!(node_count() >= 1);
        let mut cpus = cpus_across_nodes();
        cpus.sort_unstable();
        assert_eq!(cpus, allowed_cpus());
    }
}
