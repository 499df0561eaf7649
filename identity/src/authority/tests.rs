use std::os::unix::fs::PermissionsExt;

use edgeprof_common::Role;
use tempfile::TempDir;
use x509_parser::prelude::GeneralName;

use super::*;

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc().replace_nanosecond(0).unwrap()
}

fn lab() -> (TempDir, Authority) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::init(&folder.path().join("pki"), "attic", now()).unwrap();
    (folder, authority)
}

fn worker(name: &str) -> Order {
    Order { identity: Identity::Worker(name.into()), lifetime: None, again: false, out: None }
}

fn ann() -> Order {
    let identity = Identity::Client { name: "ann".into(), role: Role::Operator };
    Order { identity, ..worker("") }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_certificate_says_whose_it_is_and_expires_soon() {
    let (_folder, mut authority) = lab();
    for (order, days) in [(worker("host-1"), 90), (ann(), 30)] {
        let issued = authority.issue(&order, now()).unwrap();
        let folder = authority.folder_of(&order.identity);
        let made = files::credentials(&folder.join("cert.pem"), &folder.join("key.pem")).unwrap();
        assert_eq!(made.certificate.identity.as_ref(), Some(&order.identity));
        assert_eq!(made.certificate.serial, issued.serial);
        assert!(made.certificate.issuer.contains("attic"), "{:?}", made.certificate);
        let left = made.certificate.not_after - now();
        assert!((days - 1..=days).contains(&left.whole_days()), "{left}");
    }
}

#[test]
fn the_dns_name_stands_beside_the_uri_and_each_kind_has_its_purpose() {
    let (_folder, mut authority) = lab();
    let coordinator = Order { identity: Identity::Coordinator, ..worker("") };
    for (order, dns, server, client) in [
        (coordinator, "coordinator.edgeprof.internal", true, true),
        (worker("host-1"), "host-1.worker.edgeprof.internal", true, false),
        (ann(), "ann.client.edgeprof.internal", false, true),
    ] {
        authority.issue(&order, now()).unwrap();
        let der = files::certificates(&authority.folder_of(&order.identity).join("cert.pem")).unwrap();
        let (_, parsed) = X509Certificate::from_der(&der[0]).unwrap();
        let names = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert!(names.contains(&GeneralName::DNSName(dns)), "{names:?}");
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert_eq!((usage.server_auth, usage.client_auth, usage.any), (server, client, false));
        assert!(!parsed.is_ca());
    }
}

#[test]
fn keys_are_for_their_owner_alone() {
    let (folder, mut authority) = lab();
    let out = folder.path().join("out");
    let order = Order { out: Some(out.clone()), ..worker("host-1") };
    authority.issue(&order, now()).unwrap();
    let issued = authority.folder_of(&order.identity);
    for key in [authority.file("ca.key"), issued.join("key.pem"), out.join("key.pem")] {
        assert_eq!(mode(&key), 0o600, "{}", key.display());
    }
    for folder in [authority.folder.clone(), issued, out] {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
    }
}

#[test]
fn a_second_authority_and_a_second_certificate_need_a_word() {
    let (_folder, mut authority) = lab();
    let at = authority.folder.clone();
    authority.issue(&worker("host-1"), now()).unwrap();
    let error = authority.issue(&worker("host-1"), now()).unwrap_err();
    assert!(
        matches!(error, PkiError::Alive { .. }) && error.hint().contains("pki renew worker/host-1"),
        "{error}"
    );
    authority.issue(&Order { again: true, ..worker("host-1") }, now()).unwrap();
    // Nobody needs to say anything once it has expired.
    authority.issue(&worker("host-1"), now() + Duration::days(100)).unwrap();
    drop(authority);
    let error = Authority::init(&at, "attic", now()).unwrap_err();
    assert!(
        matches!(error, PkiError::Exists(_)) && error.to_string().contains(at.to_str().unwrap()),
        "{error}"
    );
    assert_eq!(Authority::open(&at).unwrap().issued().len(), 3);
    let error = Authority::open(Path::new("/nowhere/pki")).unwrap_err();
    assert!(error.to_string().contains("/nowhere/pki") && error.hint().contains("pki init"), "{error}");
}

#[test]
fn what_is_revoked_is_in_the_list_and_in_every_copy_of_it() {
    let (_folder, mut authority) = lab();
    let first = authority.issue(&worker("host-1"), now()).unwrap();
    let second = authority.renew("host-1", None, None, now()).unwrap();
    authority.issue(&ann(), now()).unwrap();
    let revoked = authority.revoke("host-1", Reason::KeyCompromise, now()).unwrap();
    assert_eq!(revoked.iter().map(|one| &one.serial).collect::<Vec<_>>(), [&first.serial, &second.serial]);
    let copy = authority.folder_of(&ann().identity).join("crl.pem");
    for path in [authority.revocations(), copy] {
        let list = files::revocations(&path).unwrap();
        assert_eq!(list.revoked(), [first.serial.clone(), second.serial.clone()], "{}", path.display());
    }
    let error = authority.revoke("host-1", Reason::Unspecified, now()).unwrap_err();
    assert!(matches!(error, PkiError::Over(_)), "{error}");
    let error = authority.renew("host-1", None, None, now()).unwrap_err();
    assert!(error.hint().contains("pki issue worker host-1"), "{error}: {}", error.hint());
    authority.issue(&worker("host-1"), now()).unwrap();
    // By its serial, and as a later process sees it.
    let at = authority.folder.clone();
    drop(authority);
    let mut authority = Authority::open(&at).unwrap();
    let serial = authority.issued().last().unwrap().serial.to_string();
    assert_eq!(authority.revoke(&serial, Reason::Superseded, now()).unwrap().len(), 1);
    assert_eq!(authority.issued().iter().filter(|one| one.revoked.is_some()).count(), 3);
}

#[test]
fn a_name_of_two_kinds_has_to_be_said_with_its_kind() {
    let (_folder, mut authority) = lab();
    authority.issue(&worker("ann"), now()).unwrap();
    authority.issue(&ann(), now()).unwrap();
    let error = authority.renew("ann", None, None, now()).unwrap_err();
    assert!(error.hint().contains("client/ann or worker/ann"), "{}", error.hint());
    let renewed = authority.renew("client/ann", None, None, now()).unwrap();
    assert_eq!(renewed.identity, ann().identity, "it keeps its role");
    let error = authority.renew("bob", None, None, now()).unwrap_err();
    assert!(error.to_string().contains("\"bob\"") && error.hint().contains("pki list"), "{error}");
}

#[test]
fn bad_names_and_foreign_folders_are_refused_and_nothing_is_issued() {
    let (folder, mut authority) = lab();
    for bad in ["../x", "a b", "", "a?role=admin"] {
        assert!(matches!(authority.issue(&worker(bad), now()), Err(PkiError::Name(_))), "{bad:?}");
    }
    assert!(authority.issued().is_empty());
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("thesis.tex"), "x").unwrap();
    let error = authority.issue(&Order { out: Some(out.clone()), ..worker("a") }, now()).unwrap_err();
    assert!(error.to_string().contains("thesis.tex"), "{error}");
    assert!(out.join("thesis.tex").exists());
}

#[test]
fn a_damaged_folder_is_told_by_the_file() {
    let (_folder, authority) = lab();
    let at = authority.folder.clone();
    drop(authority);
    let of = |name: &str| at.join(name);
    fs::write(of("index.toml"), "[[certificate]]\nserial = \"x\"\n").unwrap();
    assert!(Authority::open(&at).unwrap_err().to_string().contains("index.toml"));
    fs::write(of("index.toml"), "").unwrap();
    Authority::open(&at).unwrap();
    let other = KeyPair::generate().unwrap();
    disk::write(&of("ca.key"), other.serialize_pem().as_bytes(), 0o600).unwrap();
    let error = Authority::open(&at).unwrap_err().to_string();
    assert!(error.contains("ca.key") && error.contains("not the key of ca.pem"), "{error}");
    fs::set_permissions(of("ca.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(Authority::open(&at).unwrap_err().to_string().contains("others can read"));
}

#[test]
fn nothing_outlives_its_authority() {
    let (_folder, mut authority) = lab();
    let late = now() + profile::AUTHORITY - Duration::days(10);
    let issued = authority.issue(&worker("host-1"), late).unwrap();
    assert_eq!(issued.until, authority.until);
    let error = authority.issue(&worker("host-2"), late + Duration::days(11)).unwrap_err();
    assert!(matches!(error, PkiError::Expired { .. }), "{error}");
    let none = Order { lifetime: Some(Duration::ZERO), ..worker("host-3") };
    assert!(matches!(authority.issue(&none, now()), Err(PkiError::NoTime)));
}
