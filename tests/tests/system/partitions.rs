//! Hosts on a network of their own, and that network failing.

use edgeprof_tests::{Lab, Lan};

#[test]
fn daemons_on_hosts_of_their_own_find_each_other() {
    let Some(lan) = Lan::new() else { return };
    let lab = Lab::on_hosts(&lan, &[&["mps2-an386"], &["mps2-an386"]]);
    println!("{}", lab.client(&["workers"]).stdout);
    println!("{}", lab.client(&["boards"]).stdout);
}
