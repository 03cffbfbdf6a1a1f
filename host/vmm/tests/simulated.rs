//! Keeps on the simulated SEV-SNP platform.

mod guest;

use enarx_vmm::launch::Outcome;
use guest::{Options, have_kvm, run_with};

fn options() -> Options {
    Options {
        simulated: true,
        ..Options::default()
    }
}

#[test]
fn hello() {
    if !have_kvm("hello") {
        return;
    }
    let (outcome, output) = run_with("hello", &options());
    assert_eq!(
        (outcome, output.as_str()),
        (Outcome::Exit(7), "hello from CPL3\n")
    );
}
