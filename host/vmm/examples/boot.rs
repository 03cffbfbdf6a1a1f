//! Boots a static executable in a Keep of plain KVM: `boot MICROKERNEL EXECUTABLE`.
use enarx_vmm::{
    grant::{Grant, NetworkGrant},
    launch::Launch,
};
use std::os::fd::OwnedFd;
use std::time::Duration;
fn main() {
    let mut args = std::env::args().skip(1);
    let mut read = || -> &'static [u8] {
        Box::leak(
            std::fs::read(args.next().unwrap())
                .unwrap()
                .into_boxed_slice(),
        )
    };
    let microkernel = read();
    let runtime = read();
    let application = std::env::args()
        .nth(3)
        .map(|p| std::fs::read(p).unwrap())
        .unwrap_or_default();
    let dup = |fd: i32| -> OwnedFd {
        std::os::fd::AsFd::as_fd(
            &match fd {
                0 => std::io::stdin().as_fd().try_clone_to_owned(),
                1 => std::io::stdout().as_fd().try_clone_to_owned(),
                _ => std::io::stderr().as_fd().try_clone_to_owned(),
            }
            .unwrap(),
        )
        .try_clone_to_owned()
        .unwrap()
    };
    use std::os::fd::AsFd;
    let launch = Launch {
        runtime,
        microkernel,
        grant: Grant {
            stdio: [dup(0), dup(1), dup(2)],
            directories: vec![],
            network: NetworkGrant::default(),
        },
        configuration: enarx_contract::Configuration {
            args: vec!["app".into()],
            timings: true,
            ..Default::default()
        }
        .encode()
        .unwrap(),
        application,
        memory: 1 << 30,
        vcpus: 2,
        timeout: Some(Duration::from_secs(20)),
        timings: true,
    };
    println!("{:?}", enarx_vmm::kvm::run(launch));
}
