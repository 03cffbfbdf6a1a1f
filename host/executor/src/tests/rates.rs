// SPDX-License-Identifier: Apache-2.0

//! Rates: requests that come too fast wait, and delay nothing else.

use super::*;

/// A Keep with a directory, and these rates.
fn at_rates(directory: &Path, rates: Rates) -> Keep {
    Keep::of(Grant {
        directories: vec![GrantedDirectory {
            directory: fs::File::open(directory).unwrap().into(),
            read_only: false,
            quota: None,
        }],
        rates,
        ..Grant::of_streams([null(), null(), null()])
    })
}

#[test]
fn syncs_beyond_the_rate_wait_and_delay_nothing_else() {
    let dir = TempDir::new().unwrap();
    let mut keep = at_rates(
        dir.path(),
        Rates {
            syncs: Rate {
                burst: 1,
                per_second: 1,
            },
            ..Rates::default()
        },
    );
    let handle = keep
        .open("new", OpenFlags::WRITE | OpenFlags::CREATE)
        .unwrap();
    let sync = |data_only| Call::Sync { handle, data_only };
    let start = Instant::now();
    keep.call(&sync(false), b"").unwrap();
    let late = [sync(true), sync(false)].map(|call| keep.submit(&call, b""));
    let clock = keep.submit(&Call::ClockWall, b"");
    let order = [(); 3].map(|()| {
        let (reply, _) = keep.reply();
        assert_eq!(reply.status, Status::Ok);
        reply.ticket
    });
    // The first of them need not wait if the one before them took a second, on a busy disk.
    assert!(
        [[clock, late[0], late[1]], [late[0], clock, late[1]]].contains(&order),
        "{order:?}"
    );
    assert!(
        start.elapsed() >= Duration::from_millis(1990),
        "{:?}",
        start.elapsed()
    );
    // A waiting one ends with its handle.
    let waits = keep.submit(&sync(true), b"");
    let close = keep.submit(&Call::Close { handle }, b"");
    let replies = [keep.reply().0, keep.reply().0];
    let status = |ticket| {
        replies
            .iter()
            .find(|it| it.ticket == ticket)
            .unwrap()
            .status
    };
    assert_eq!(
        (status(waits), status(close)),
        (Status::Cancelled, Status::Ok)
    );
}

#[test]
fn requests_beyond_the_rate_delay_their_thread() {
    let dir = TempDir::new().unwrap();
    let requests = |burst, per_second| Rates {
        requests: Rate { burst, per_second },
        ..Rates::default()
    };
    let mut keep = at_rates(dir.path(), requests(10, 100));
    let start = Instant::now();
    for _ in 0..50 {
        keep.call(&Call::ClockWall, b"").unwrap();
    }
    assert!(
        start.elapsed() >= Duration::from_millis(390),
        "{:?}",
        start.elapsed()
    );
    // A delayed thread ends with the Keep.
    let mut keep = at_rates(dir.path(), requests(0, 0));
    for _ in 0..60 {
        keep.submit(&Call::ClockWall, b"");
    }
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(ASLEEP);
            keep.executor.interrupt();
        });
        keep.executor.wait(0, Until::Completion, NO_LIMIT).unwrap();
    });
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}
