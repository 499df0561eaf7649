//! What Prometheus is told, by its own judgement.

use std::{fs, path::Path, process::Command};

use edgeprof_tests::{Finished, root, tool};

fn promtool(promtool: &Path, words: &[&str], file: &Path) {
    let checked = Finished::of(Command::new(promtool).args(words).arg(file));
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(checked.stdout.contains("rules found"), "{checked:?}");
}

#[test]
fn prometheus_takes_its_configurations_and_the_rules_that_they_name() {
    let Some(program) = tool("promtool") else { return };
    let deploy = root().join("deploy");
    promtool(&program, &["check", "config"], &deploy.join("prometheus/prometheus.yml"));

    // As the compose file mounts them, in a folder of ours instead of /etc.
    let folder = tempfile::tempdir().unwrap();
    let mounted = |name: &str| folder.path().join(name);
    let config = fs::read_to_string(deploy.join("container/prometheus.yaml")).unwrap();
    let here = format!("{}/", folder.path().display());
    fs::write(mounted("prometheus.yml"), config.replace("/etc/prometheus/", &here)).unwrap();
    fs::copy(deploy.join("prometheus/alerts.yml"), mounted("alerts.yml")).unwrap();
    promtool(&program, &["check", "config"], &mounted("prometheus.yml"));
}
