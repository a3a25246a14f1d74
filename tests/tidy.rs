//! Reads the source tree and holds it to the rules of `CONTRIBUTING.md`.
//!
//! A complaint says `file:line: rule: what to do`. The rules are pure functions in `tidy/rules.rs`;
//! `tidy/self_test.rs` shows for each of them a text that breaks it.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/self_test.rs"]
mod self_test;
#[path = "tidy/source.rs"]
mod source;

use rules::Complaint;

#[test]
fn imports_between_layers_point_downwards_only() {
    hold(&product(), rules::layer_arrows);
}

#[test]
fn unsafe_code_stands_on_the_allow_list_only() {
    hold(&product_and_crates(), rules::unsafe_allow_list);
}

#[test]
fn every_unsafe_block_carries_its_proof() {
    hold(&product_and_crates(), rules::unsafe_has_a_proof);
}

#[test]
fn only_the_sys_layer_knows_the_operating_system() {
    hold(&product(), rules::os_knowledge);
}

#[test]
fn no_file_is_longer_than_600_lines() {
    hold(&product_and_crates(), rules::file_length);
}

#[test]
fn no_function_is_longer_than_70_lines() {
    hold(&product_and_crates(), rules::function_length);
}

#[test]
fn no_text_contains_a_banned_word() {
    let places = ["src", "crates", "tests", "examples", "benches", "fuzz", "docs", "ci", ".ci"];
    let mut texts = files(&places, &["rs", "md", "toml", "sh", "c", "h", "py"]);
    texts.extend(files_directly_in_the_root(&["md", "toml"]));
    hold(&texts, rules::banned_words);
}

#[test]
fn no_code_makes_a_banned_call() {
    hold(&files(&["src", "crates", "tests", "examples", "benches"], &["rs"]), rules::banned_calls);
}

#[test]
fn shared_fields_have_a_fixed_width() {
    hold(&product(), rules::shared_fields);
}

#[test]
fn every_ordering_names_the_access_it_pairs_with() {
    hold(&product(), rules::orderings_name_their_pair);
}

#[test]
fn every_dependency_is_explained_in_contributing() {
    let explained = fs::read_to_string(root().join("CONTRIBUTING.md")).expect("CONTRIBUTING.md must exist");
    let mut manifests = files(&["crates", "fuzz"], &["toml"]);
    manifests.extend(files_directly_in_the_root(&["toml"]));
    manifests.retain(|(path, _)| path == "Cargo.toml" || path.ends_with("/Cargo.toml"));
    hold(&manifests, |path, text| rules::dependencies_are_explained(path, text, &explained));
}

/// Applies `rule` to all `texts` and fails with every complaint.
fn hold(texts: &[(String, String)], rule: impl Fn(&str, &str) -> Vec<Complaint>) {
    assert!(!texts.is_empty(), "found no files below {}: the rule would check nothing", root().display());
    let complaints: Vec<Complaint> = texts.iter().flat_map(|(path, text)| rule(path, text)).collect();
    let list: String = complaints.iter().map(|complaint| format!("  {complaint}\n")).collect();
    assert!(complaints.is_empty(), "{} complaint(s):\n{list}", complaints.len());
}

fn product() -> Vec<(String, String)> {
    files(&["src"], &["rs"])
}

/// The library and the `src` folders of the other crates.
fn product_and_crates() -> Vec<(String, String)> {
    let mut texts = product();
    let crates = files(&["crates"], &["rs"]);
    texts.extend(crates.into_iter().filter(|(path, _)| path.split('/').any(|part| part == "src")));
    texts
}

/// Path and text of all files below `folders` with one of these extensions; a missing folder has none.
fn files(folders: &[&str], extensions: &[&str]) -> Vec<(String, String)> {
    let mut paths = Vec::new();
    for folder in folders {
        collect(&root().join(folder), &mut paths);
    }
    read(paths, extensions)
}

fn files_directly_in_the_root(extensions: &[&str]) -> Vec<(String, String)> {
    let entries = fs::read_dir(root()).expect("the root of the repository must be readable");
    read(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect(), extensions)
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, paths);
        } else if path.is_file() {
            paths.push(path);
        }
    }
}

fn read(mut paths: Vec<PathBuf>, extensions: &[&str]) -> Vec<(String, String)> {
    paths.sort();
    let wanted =
        |path: &PathBuf| path.extension().is_some_and(|found| extensions.iter().any(|e| found == *e));
    let text = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let relative = path.strip_prefix(root()).expect("invariant: found below the root");
        (relative.to_string_lossy().replace('\\', "/"), text)
    };
    paths.into_iter().filter(wanted).map(text).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
