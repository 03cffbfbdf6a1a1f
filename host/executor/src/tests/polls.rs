// SPDX-License-Identifier: Apache-2.0

//! One request that waits for many handles.

use super::*;

/// A call that has these handles watched and waits for one of them, and its input.
fn poll(entries: &[(Handle, Events)]) -> (Call, Vec<u8>) {
    let call = Call::Poll {
        count: u32::try_from(entries.len()).unwrap(),
    };
    (call, named(entries))
}

/// Entries as bytes.
fn named(entries: &[(Handle, Events)]) -> Vec<u8> {
    let entry = |(handle, events): &(Handle, Events)| poll::Entry {
        handle: *handle,
        events: *events,
    };
    let bytes = entries.iter().map(entry).flat_map(poll::Entry::to_bytes);
    bytes.collect()
}

#[test]
fn one_request_waits_for_many_handles() {
    let (stdin, mut writer) = pipe().unwrap();
    let (reader, stdout) = pipe().unwrap();
    let mut keep = Keep::new([stdin.into(), stdout.into(), null()], &[]);
    let stdin = (Handle::STDIN, Events::READ);
    let stdout = (Handle::STDOUT, Events::WRITE);

    let (call, input) = poll(&[stdin, stdout]);
    assert_eq!(keep.call(&call, &input).unwrap().1, named(&[stdout]));

    // Nothing else is ready: other calls continue, and it is answered when something is ready. Named handles are
    // no longer watched, the others still are.
    let (call, input) = poll(&[]);
    let ticket = keep.submit(&call, &input);
    assert_eq!(keep.executor.drain_all().unwrap(), Progress::Idle);
    assert!(!keep.end.host_activity().has_completions());
    keep.call(&Call::ClockWall, b"").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(ASLEEP);
            writer.write_all(b"x").unwrap();
        });
        let (reply, bytes) = keep.reply();
        assert_eq!((reply.ticket, bytes), (ticket, named(&[stdin])));
    });

    // A write reports a closed reader, so the stream is ready.
    drop(reader);
    let (call, input) = poll(&[stdout]);
    assert_eq!(keep.call(&call, &input).unwrap().1, named(&[stdout]));
}

#[test]
fn directions_of_one_handle_are_watched_apart() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = SocketAddress::V4 {
        address: [127, 0, 0, 1],
        port: listener.local_addr().unwrap().port(),
    };
    // A thread that began before this one was confined.
    let (said, speaks) = channel();
    let peer = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        while let Ok(()) = speaks.recv() {
            peer.write_all(b"x").unwrap();
        }
    });
    let mut keep = networked(true, false, false);
    let open = Call::TcpOpen { ipv6: false };
    let handle = handle_of(&keep.call(&open, b"").unwrap().0);
    keep.call(&Call::TcpConnect { handle, address }, b"")
        .unwrap();
    let (read, write) = ((handle, Events::READ), (handle, Events::WRITE));
    let (call, input) = poll(&[(handle, Events::all())]);
    assert_eq!(keep.call(&call, &input).unwrap().1, named(&[write]));
    // Two requests wait, and the first is answered first.
    let first = keep.submit(&poll(&[]).0, b"");
    let second = keep.submit(&poll(&[]).0, b"");
    said.send(()).unwrap();
    let (reply, ready) = keep.reply();
    assert_eq!((reply.ticket, ready), (first, named(&[read])));
    let (call, input) = poll(&[write]);
    let third = keep.submit(&call, &input);
    let (reply, ready) = keep.reply();
    assert_eq!((reply.ticket, ready), (second, named(&[write])));
    // When the peer has disconnected, both are ready.
    drop(said);
    peer.join().unwrap();
    let (call, input) = poll(&[read, write]);
    keep.submit(&call, &input);
    let (reply, ready) = keep.reply();
    let both = (handle, Events::all());
    assert_eq!((reply.ticket, ready), (third, named(&[both])));
}

#[test]
fn handles_that_never_wait_are_ready() {
    let directory = sample();
    let mut keep = Keep::with_directory(&directory.path().join("root"), false);
    let file = keep.open("file", READ).unwrap();
    let handle = keep.open("file", READ).unwrap();
    keep.call(&Call::Close { handle }, b"").unwrap();
    let both = Events::all();
    // Of the last two, one is closed, and one lacks this direction.
    let entries = [
        (file, both),
        (ROOT, Events::READ),
        (handle, Events::WRITE),
        (Handle::STDOUT, Events::READ),
    ];
    let (call, input) = poll(&entries);
    let mut entries = entries.to_vec();
    entries.sort_by_key(|(handle, _)| handle.0);
    assert_eq!(keep.call(&call, &input).unwrap().1, named(&entries));
}

#[test]
fn a_watch_is_called_back_and_ends_with_its_handle() {
    let mut keep = networked(true, false, false);
    let listeners = [(); 2].map(|()| {
        let (reply, _) = keep.call(&Call::TcpOpen { ipv6: false }, b"").unwrap();
        let handle = handle_of(&reply);
        let address = LOCALHOST;
        keep.call(&Call::Bind { handle, address }, b"").unwrap();
        let backlog = 8;
        keep.call(&Call::TcpListen { handle, backlog }, b"")
            .unwrap();
        handle
    });
    let (call, input) = poll(&listeners.map(|handle| (handle, Events::READ)));

    let ticket = keep.submit(&call, &input);
    keep.submit(&Call::Cancel { id: ticket.id() }, b"");
    let statuses: Vec<_> = (0..2)
        .map(|_| keep.reply().0)
        .map(|reply| (reply.ticket == ticket, reply.status))
        .collect();
    assert_eq!(statuses, [(true, Status::Cancelled), (false, Status::Ok)]);

    // It was cancelled, and the watched handles stayed.
    let (call, _) = poll(&[]);
    let ticket = keep.submit(&call, b"");
    let handle = listeners[1];
    keep.submit(&Call::Close { handle }, b"");
    let replies: Vec<_> = (0..2)
        .map(|_| keep.reply())
        .map(|(reply, bytes)| (reply.ticket == ticket, reply.status, bytes))
        .collect();
    let closed = (true, Status::Ok, named(&[(handle, Events::READ)]));
    assert_eq!(replies, [closed, (false, Status::Ok, Vec::new())]);
}

#[test]
fn lists_of_any_length_are_taken_while_reports_wait() {
    let directory = sample();
    let mut keep = Keep::with_directory(&directory.path().join("root"), false);
    let files: Vec<_> = (0..poll::REPORTED_MAX + 44)
        .map(|_| (keep.open("file", READ).unwrap(), Events::READ))
        .collect();
    let (reported, rest) = files.split_at(poll::REPORTED_MAX as usize);
    let (call, input) = poll(&files);
    assert_eq!(keep.call(&call, &input).unwrap().1, named(reported));
    // However often it is named, a handle is reported once.
    let many = files.iter().copied().cycle();
    let many: Vec<_> = many.take(poll::ENTRIES_MAX as usize).collect();
    let (call, input) = poll(&many);
    assert_eq!(keep.call(&call, &input).unwrap().1, named(reported));
    let (call, _) = poll(&[]);
    assert_eq!(keep.call(&call, b"").unwrap().1, named(rest));
    keep.submit(&call, b"");
    assert_eq!(keep.executor.drain_all().unwrap(), Progress::Idle);
    assert!(!keep.end.host_activity().has_completions());
}

#[test]
fn handles_that_were_never_given_are_refused() {
    let directory = sample();
    let mut keep = Keep::with_directory(&directory.path().join("root"), false);
    let file = keep.open("file", READ).unwrap();
    // The numbers below that of the root are known.
    for number in [ROOT.0 + 1, u32::MAX] {
        let entries = [(file, Events::READ), (Handle(number), Events::READ)];
        let (call, input) = poll(&entries);
        let answer = keep.call(&call, &input).map(drop);
        assert_eq!(answer, Err(Status::Invalid), "{number}");
    }
    // Nothing of such a list is watched.
    keep.submit(&poll(&[]).0, b"");
    assert_eq!(keep.executor.drain_all().unwrap(), Progress::Idle);
    assert!(!keep.end.host_activity().has_completions());
}

#[test]
fn a_malformed_list_of_handles_is_refused() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    for entry in [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 4, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0, 9],
    ] {
        let answer = keep.call(&Call::Poll { count: 1 }, &entry).map(drop);
        assert_eq!(answer, Err(Status::Invalid), "{entry:?}");
    }
}
