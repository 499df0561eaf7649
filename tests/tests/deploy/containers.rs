//! Containers and Kubernetes: what the files tell the daemons is what the daemons take. No image is built here.

use std::{fs, path::PathBuf, process::Command};

use clap::Parser;
use edgeprof_tests::{Finished, fetched, root};
use serde_json::Value;

use crate::python::python;

fn deploy(path: &str) -> PathBuf {
    root().join("deploy").join(path)
}

/// The documents of a YAML file; none where nothing here reads YAML.
fn yaml(path: &str) -> Option<Vec<Value>> {
    const READ: &str =
        "import json, sys, yaml\nprint(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let python = python()?;
    let read = Finished::of(Command::new(python).args(["-c", READ]).arg(deploy(path)));
    assert_eq!(read.code, 0, "{read:?}");
    Some(serde_json::from_str(&read.stdout).unwrap())
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn coordinator_takes(words: &[String]) {
    let line = [&["edgeprof-coordinator".to_owned()], words].concat();
    edgeprof_coordinator::config::Flags::try_parse_from(&line)
        .unwrap_or_else(|error| panic!("{line:?}: {error}"));
}

fn worker_takes(words: &[String]) {
    let line = [&["edgeprof-worker".to_owned()], words].concat();
    edgeprof_worker::config::Cli::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
}

#[test]
fn the_daemons_of_the_compose_file_take_what_it_tells_them_and_its_files_are_there() {
    let Some(files) = yaml("container/compose.yaml") else { return };
    let services = &files[0]["services"];
    coordinator_takes(&words(&services["coordinator"]["command"]));
    worker_takes(&words(&services["worker"]["command"]));
    let mut mounted = 0;
    for service in services.as_object().unwrap().values() {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            // Certificates are made by whoever starts it.
            if source.starts_with("./") && !source.starts_with("./pki") {
                assert!(deploy("container").join(source).exists(), "{source}");
                mounted += 1;
            }
        }
    }
    assert!(mounted >= 4, "{mounted}");
    for file in ["collector", "prometheus", "grafana", "dashboards"] {
        yaml(&format!("container/{file}.yaml"));
    }
}

#[test]
fn the_coordinator_in_kubernetes_is_one_with_a_volume_probes_and_a_configuration_that_is_good() {
    let Some(all) = yaml("kubernetes/coordinator.yaml") else { return };
    let of =
        |kind: &str| all.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("{kind}"));
    let config = of("ConfigMap")["data"]["coordinator.toml"].as_str().unwrap();
    let config: edgeprof_coordinator::config::Config = toml::from_str(config).unwrap();
    let set = &of("StatefulSet")["spec"];
    assert_eq!((&set["replicas"], set["volumeClaimTemplates"].as_array().unwrap().len()), (&1.into(), 1));
    let pod = &set["template"]["spec"];
    let container = &pod["containers"][0];
    coordinator_takes(&words(&container["args"]));
    let port = container["ports"][0]["containerPort"].as_u64().unwrap();
    assert_eq!(
        (u64::from(config.listen.port()), &of("Service")["spec"]["ports"][0]["port"]),
        (port, &port.into())
    );
    let data = config.data.to_str().unwrap();
    assert!(container["volumeMounts"].as_array().unwrap().iter().any(|mount| mount["mountPath"] == data));
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let command = words(&container[probe]["exec"]["command"]);
        assert!(command[0] == "edgeprof" && command.contains(&"health".to_owned()), "{command:?}");
    }
    let security =
        [&pod["securityContext"]["runAsNonRoot"], &container["securityContext"]["readOnlyRootFilesystem"]];
    assert!(security.iter().all(|on| **on == true), "{security:?}");
}

/// By the definitions of the API server, which refuses fields that it does not know.
#[test]
fn kubernetes_knows_every_field_of_the_manifest() {
    let (Some(definitions), Some(objects)) =
        (fetched("kubernetes.json"), yaml("kubernetes/coordinator.yaml"))
    else {
        return;
    };
    let text = fs::read_to_string(definitions).unwrap();
    // One document, whose parts name each other by its address.
    let definitions: Value = serde_json::from_str(&text.replace("/api/_definitions.json#", "#")).unwrap();
    let validator = |version: &str, kind: &str| {
        let mut schema = definitions.clone();
        schema["$ref"] = format!("#/$defs/io.k8s.api.{version}.{kind}").into();
        jsonschema::validator_for(&schema).unwrap()
    };
    for object in &objects {
        let version = object["apiVersion"].as_str().unwrap().replace('/', ".");
        let version = if version == "v1" { "core.v1".to_owned() } else { version };
        let validator = validator(&version, object["kind"].as_str().unwrap());
        let errors: Vec<String> = validator
            .iter_errors(object)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
        let mut unknown = object.clone();
        unknown["metadata"]["lables"] = Value::Null;
        assert!(!validator.is_valid(&unknown), "a field that nobody knows is refused");
    }
    assert_eq!(objects.len(), 3);
}

/// An instruction a line, with what it goes on with; the stages that the other files ask for are there.
#[test]
fn the_images_have_the_stages_that_are_built() {
    let text = fs::read_to_string(deploy("container/Containerfile")).unwrap();
    let mut goes_on = false;
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let first = line.split_whitespace().next().unwrap();
        let known = ["FROM", "ARG", "RUN", "USER", "ENV", "VOLUME", "EXPOSE", "ENTRYPOINT"];
        assert!(goes_on || known.contains(&first), "{line}");
        goes_on = line.ends_with('\\');
    }
    for stage in ["coordinator", "worker"] {
        assert!(text.contains(&format!("FROM base AS {stage}\n")), "{stage}");
    }
}
