//! Every link in the documents leads somewhere: to a file of the repository, and to a heading where it names one.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use edgeprof_tests::root;

/// The documents that people read on their own.
fn documents() -> Vec<PathBuf> {
    let mut found: Vec<_> = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "fuzz/README.md"]
        .map(|name| root().join(name))
        .into();
    let mut folders = vec![root().join("docs"), root().join("deploy")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// Lines outside of blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// What the links of a document lead to: `](TARGET)`, outside of code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("](") {
            let (target, after) = after.split_once(')').unwrap_or((after, ""));
            found.push(target.to_owned());
            rest = after;
        }
    }
    found
}

/// The anchors of a document's headings, as forges make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

fn broken(document: &Path, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file =
        if path.is_empty() { document.to_owned() } else { document.parent().unwrap_or(root()).join(path) };
    if !file.exists() {
        return Some(format!("there is no {}", file.display()));
    }
    let anchor = anchor?;
    let text = fs::read_to_string(&file).unwrap_or_default();
    (!anchors(&text).contains(anchor)).then(|| format!("{} has no heading #{anchor}", file.display()))
}

#[test]
fn every_link_in_the_documents_leads_to_a_file_and_a_heading_that_are_there() {
    let (mut count, mut dead) = (0, Vec::new());
    for document in documents() {
        for target in links(&fs::read_to_string(&document).unwrap()) {
            count += 1;
            if let Some(why) = broken(&document, &target) {
                dead.push(format!("{}: ({target}): {why}", document.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
    assert!(count > 10, "links are found at all: {count}");
}

#[test]
fn a_link_to_what_is_not_there_is_found() {
    let text = "# A `b`, c\n[x](y.md) and [`z`](#a-b-c)\n```sh\n# no heading\n[n](o.md)\n```\n";
    assert_eq!(links(text), ["y.md", "#a-b-c"]);
    assert_eq!(anchors(text), BTreeSet::from(["a-b-c".to_owned()]));
    let readme = root().join("README.md");
    for dead in ["nowhere.md", "#no-such-heading", "docs/security.md#no-such-heading"] {
        assert!(broken(&readme, dead).is_some(), "{dead}");
    }
    for good in ["ARCHITECTURE.md#invariants", "docs/security.md#roles", "https://example.org/x#y", "docs"] {
        assert_eq!(broken(&readme, good), None);
    }
}
