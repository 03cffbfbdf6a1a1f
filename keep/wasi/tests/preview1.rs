// SPDX-License-Identifier: Apache-2.0

//! Conformance of the front end of preview 1: every function, with its error codes, over the private file
//! system and over a directory of the host.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use enarx_configuration::{Configuration, Directory, Terminals};
use enarx_sallyport_host::{InProcess, World};
use enarx_wasi::View;
use enarx_wasi::budget::Budget;
use enarx_wasi::context::{Context, Surroundings};
use enarx_wasi::preview1::{self, CallTrap, Preview1};
use enarx_wasi::random::Random;
use wasmtime::{Engine, Func, Instance, Linker, Memory, Module, Store, Val};

// Error numbers (witx, `errno`).
const SUCCESS: i32 = 0;
const BADF: i32 = 8;
const EXIST: i32 = 20;
const ILSEQ: i32 = 25;
const INVAL: i32 = 28;
const ISDIR: i32 = 31;
const LOOP: i32 = 32;
const NAMETOOLONG: i32 = 37;
const NOENT: i32 = 44;
const NOTDIR: i32 = 54;
const NOTEMPTY: i32 = 55;
const NOTSOCK: i32 = 57;
const NOTSUP: i32 = 58;
const PERM: i32 = 63;
const PIPE: i32 = 64;
const SPIPE: i32 = 70;

// Flags and rights.
const CREAT: i32 = 1;
const DIRECTORY: i32 = 2;
const EXCL: i32 = 4;
const TRUNC: i32 = 8;
const APPEND: i32 = 1;
const SYNC: i32 = 16;
const READ: i64 = 1 << 1;
const WRITE: i64 = 1 << 6;
const BOTH: i64 = READ | WRITE;
const FOLLOW: i32 = 1;

/// First directory of every test.
const DIR: i32 = 3;

/// Places for text, second text, buffers and results in the guest's memory.
const TEXT: i32 = 0x1000;
const TEXT2: i32 = 0x4000;
const VECTORS: i32 = 0x8000;
const RESULT: i32 = 0x8100;
const BUFFER: i32 = 0x1_0000;

/// Signatures: `i` is i32, `I` is i64; every function returns an error number.
const SIGNATURES: &[(&str, &str)] = &[
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "iIi"),
    ("fd_advise", "iIIi"),
    ("fd_allocate", "iII"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "iII"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "iI"),
    ("fd_filestat_set_times", "iIIi"),
    ("fd_pread", "iiiIi"),
    ("fd_prestat_get", "ii"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_pwrite", "iiiIi"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiiIi"),
    ("fd_renumber", "ii"),
    ("fd_seek", "iIii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiiIIi"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiiIIii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_raise", "i"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

struct State(Preview1);

impl View<Preview1> for State {
    fn wasi(&mut self) -> &mut Preview1 {
        &mut self.0
    }
}

/// A module that exports every function unchanged.
fn module(engine: &Engine) -> Module {
    let mut imports = String::new();
    let mut functions = String::new();
    for (name, signature) in SIGNATURES {
        let parameters: String = signature
            .chars()
            .map(|c| if c == 'I' { " i64" } else { " i32" })
            .collect();
        let mut arguments = String::new();
        for index in 0..signature.len() {
            write!(arguments, " (local.get {index})").unwrap();
        }
        writeln!(
            imports,
            "(import \"wasi_snapshot_preview1\" \"{name}\" \
             (func ${name} (param{parameters}) (result i32)))"
        )
        .unwrap();
        writeln!(
            functions,
            "(func (export \"{name}\") (param{parameters}) (result i32) (call ${name}{arguments}))"
        )
        .unwrap();
    }
    let text = format!("(module {imports} (memory (export \"memory\") 64) {functions})");
    Module::new(engine, wat::parse_str(text).unwrap()).unwrap()
}

struct Guest {
    store: Store<State>,
    instance: Instance,
    memory: Memory,
    host: InProcess,
}

impl Guest {
    fn new(configuration: &Configuration, world: World) -> Self {
        Self::changed(configuration, world, |_| {})
    }

    /// With a change to the program's settings.
    fn changed(
        configuration: &Configuration,
        world: World,
        change: impl FnOnce(&mut Context),
    ) -> Self {
        let directories = configuration.directories.len();
        let (port, host) = InProcess::start(World {
            directories,
            ..world
        });
        let mut context = Context::new(
            &port,
            configuration,
            &Budget::new(1 << 30),
            Surroundings::default(),
        )
        .unwrap();
        change(&mut context);
        let engine = Engine::default();
        let module = module(&engine);
        let mut linker = Linker::new(&engine);
        for import in module.imports() {
            assert!(preview1::define(&mut linker, import.name()).unwrap());
        }
        let mut store = Store::new(&engine, State(Preview1::new(context)));
        let instance = linker.instantiate(&mut store, &module).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        Self {
            store,
            instance,
            memory,
            host,
        }
    }

    /// With a private file system.
    fn private() -> Self {
        Self::new(&Configuration::default(), World::default())
    }

    /// With a directory of the host.
    fn on_host(read_only: bool) -> Self {
        let configuration = Configuration {
            directories: vec![Directory {
                guest_path: "/data".into(),
                read_only,
            }],
            ..Configuration::default()
        };
        Self::new(&configuration, World::default())
    }

    /// One of each kind.
    fn each() -> [Self; 2] {
        [Self::private(), Self::on_host(false)]
    }

    fn try_call(&mut self, name: &str, arguments: &[Val]) -> wasmtime::Result<i32> {
        let function: Func = self.instance.get_func(&mut self.store, name).unwrap();
        let mut results = [Val::I32(0)];
        function.call(&mut self.store, arguments, &mut results)?;
        Ok(results[0].unwrap_i32())
    }

    fn call(&mut self, name: &str, arguments: &[Val]) -> i32 {
        self.try_call(name, arguments).unwrap()
    }

    fn put(&mut self, pointer: i32, bytes: &[u8]) {
        let pointer = usize::try_from(pointer).unwrap();
        self.memory.write(&mut self.store, pointer, bytes).unwrap();
    }

    fn bytes(&self, pointer: i32, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let pointer = usize::try_from(pointer).unwrap();
        self.memory.read(&self.store, pointer, &mut bytes).unwrap();
        bytes
    }

    fn u32(&self, pointer: i32) -> u32 {
        u32::from_le_bytes(self.bytes(pointer, 4).try_into().unwrap())
    }

    fn u64(&self, pointer: i32) -> u64 {
        u64::from_le_bytes(self.bytes(pointer, 8).try_into().unwrap())
    }

    /// Puts text at an address; its pointer and length as arguments.
    fn text(&mut self, pointer: i32, text: &str) -> [Val; 2] {
        self.put(pointer, text.as_bytes());
        [
            Val::I32(pointer),
            Val::I32(i32::try_from(text.len()).unwrap()),
        ]
    }

    fn vector(&mut self, pointer: i32, length: i32) {
        let vector = [pointer.to_le_bytes(), length.to_le_bytes()].concat();
        self.put(VECTORS, &vector);
    }

    fn path(&mut self, name: &str, fd: i32, path: &str) -> i32 {
        let [pointer, length] = self.text(TEXT, path);
        self.call(name, &[Val::I32(fd), pointer, length])
    }

    fn open_with(
        &mut self,
        path: &str,
        lookup: i32,
        flags: i32,
        rights: i64,
        fdflags: i32,
    ) -> Result<i32, i32> {
        let [pointer, length] = self.text(TEXT, path);
        let errno = self.call(
            "path_open",
            &[
                Val::I32(DIR),
                Val::I32(lookup),
                pointer,
                length,
                Val::I32(flags),
                Val::I64(rights),
                Val::I64(0),
                Val::I32(fdflags),
                Val::I32(RESULT),
            ],
        );
        if errno == SUCCESS {
            Ok(i32::try_from(self.u32(RESULT)).unwrap())
        } else {
            Err(errno)
        }
    }

    fn open(&mut self, path: &str, flags: i32, rights: i64) -> Result<i32, i32> {
        self.open_with(path, FOLLOW, flags, rights, 0)
    }

    fn close(&mut self, fd: i32) -> i32 {
        self.call("fd_close", &[Val::I32(fd)])
    }

    fn write(&mut self, fd: i32, bytes: &[u8]) -> Result<u32, i32> {
        self.put(BUFFER, bytes);
        self.vector(BUFFER, i32::try_from(bytes.len()).unwrap());
        self.result("fd_write", &[Val::I32(fd), Val::I32(VECTORS), Val::I32(1)])
    }

    fn read(&mut self, fd: i32, length: i32) -> Result<Vec<u8>, i32> {
        self.vector(BUFFER, length);
        let read = self.result("fd_read", &[Val::I32(fd), Val::I32(VECTORS), Val::I32(1)])?;
        Ok(self.bytes(BUFFER, read as usize))
    }

    fn pwrite(&mut self, fd: i32, bytes: &[u8], offset: i64) -> Result<u32, i32> {
        self.put(BUFFER, bytes);
        self.vector(BUFFER, i32::try_from(bytes.len()).unwrap());
        let arguments = [
            Val::I32(fd),
            Val::I32(VECTORS),
            Val::I32(1),
            Val::I64(offset),
        ];
        self.result("fd_pwrite", &arguments)
    }

    fn pread(&mut self, fd: i32, length: i32, offset: i64) -> Result<Vec<u8>, i32> {
        self.vector(BUFFER, length);
        let arguments = [
            Val::I32(fd),
            Val::I32(VECTORS),
            Val::I32(1),
            Val::I64(offset),
        ];
        let read = self.result("fd_pread", &arguments)?;
        Ok(self.bytes(BUFFER, read as usize))
    }

    /// Calls a function whose last argument points to a 32-bit result.
    fn result(&mut self, name: &str, arguments: &[Val]) -> Result<u32, i32> {
        let arguments = [arguments, &[Val::I32(RESULT)]].concat();
        match self.call(name, &arguments) {
            SUCCESS => Ok(self.u32(RESULT)),
            errno => Err(errno),
        }
    }

    fn seek(&mut self, fd: i32, offset: i64, whence: i32) -> Result<u64, i32> {
        let arguments = [Val::I32(fd), Val::I64(offset), Val::I32(whence)];
        self.result("fd_seek", &arguments)?;
        Ok(self.u64(RESULT))
    }

    fn create(&mut self, path: &str, content: &[u8]) {
        let fd = self.open(path, CREAT, BOTH).unwrap();
        assert_eq!(self.write(fd, content).unwrap() as usize, content.len());
        assert_eq!(self.close(fd), SUCCESS);
    }

    fn content(&mut self, path: &str) -> Result<Vec<u8>, i32> {
        let fd = self.open(path, 0, READ)?;
        let content = self.read(fd, 4096)?;
        assert_eq!(self.close(fd), SUCCESS);
        Ok(content)
    }

    fn symlink(&mut self, target: &str, path: &str) -> i32 {
        let [target, target_length] = self.text(TEXT2, target);
        let [path, length] = self.text(TEXT, path);
        let arguments = [target, target_length, Val::I32(DIR), path, length];
        self.call("path_symlink", &arguments)
    }

    fn rename(&mut self, from: &str, to: &str) -> i32 {
        let [from, from_length] = self.text(TEXT, from);
        let [to, to_length] = self.text(TEXT2, to);
        let dir = Val::I32(DIR);
        self.call("path_rename", &[dir, from, from_length, dir, to, to_length])
    }

    fn link(&mut self, flags: i32, from: &str, to: &str) -> i32 {
        let [from, from_length] = self.text(TEXT, from);
        let [to, to_length] = self.text(TEXT2, to);
        let dir = Val::I32(DIR);
        let arguments = [dir, Val::I32(flags), from, from_length, dir, to, to_length];
        self.call("path_link", &arguments)
    }

    /// The `filestat` of a path.
    fn stat(&mut self, path: &str, lookup: i32) -> Result<Filestat, i32> {
        let [pointer, length] = self.text(TEXT, path);
        let arguments = [
            Val::I32(DIR),
            Val::I32(lookup),
            pointer,
            length,
            Val::I32(RESULT),
        ];
        match self.call("path_filestat_get", &arguments) {
            SUCCESS => Ok(self.filestat()),
            errno => Err(errno),
        }
    }

    fn fstat(&mut self, fd: i32) -> Result<Filestat, i32> {
        match self.call("fd_filestat_get", &[Val::I32(fd), Val::I32(RESULT)]) {
            SUCCESS => Ok(self.filestat()),
            errno => Err(errno),
        }
    }

    fn filestat(&self) -> Filestat {
        Filestat {
            inode: self.u64(RESULT + 8),
            kind: self.bytes(RESULT + 16, 1)[0],
            links: self.u64(RESULT + 24),
            size: self.u64(RESULT + 32),
            accessed: self.u64(RESULT + 40),
            modified: self.u64(RESULT + 48),
        }
    }

    /// All names of a directory, read through a buffer of `length` bytes.
    fn list(&mut self, fd: i32, length: i32) -> Vec<(String, u8)> {
        let mut names = Vec::new();
        let mut cookie = 0;
        loop {
            let arguments = [
                Val::I32(fd),
                Val::I32(BUFFER),
                Val::I32(length),
                Val::I64(cookie),
            ];
            let used = self.result("fd_readdir", &arguments).unwrap() as usize;
            let bytes = self.bytes(BUFFER, used);
            let mut rest = &bytes[..];
            while rest.len() >= 24 {
                let name_length = u32::from_le_bytes(rest[16..20].try_into().unwrap()) as usize;
                let Some(name) = rest.get(24..24 + name_length) else {
                    break;
                };
                names.push((String::from_utf8(name.to_vec()).unwrap(), rest[20]));
                cookie = i64::from_le_bytes(rest[0..8].try_into().unwrap());
                rest = &rest[24 + name_length..];
            }
            if used < usize::try_from(length).unwrap() {
                return names;
            }
        }
    }
}

#[derive(Debug, PartialEq)]
struct Filestat {
    inode: u64,
    kind: u8,
    links: u64,
    size: u64,
    accessed: u64,
    modified: u64,
}

#[test]
fn every_function_is_defined_and_tested() {
    let mut expected: Vec<_> = SIGNATURES.iter().map(|(name, _)| *name).collect();
    expected.push("proc_exit");
    expected.sort_unstable();
    let mut defined = preview1::FUNCTIONS.to_vec();
    defined.sort_unstable();
    assert_eq!(defined, expected);
    assert_eq!(defined.len(), 46);
    let mut linker = Linker::<State>::new(&Engine::default());
    assert!(!preview1::define(&mut linker, "fd_unknown").unwrap());
}

#[test]
fn arguments_and_environment() {
    let configuration = Configuration {
        args: vec!["app".into(), String::new(), "wörld".into()],
        env: vec![("A".into(), "1".into()), ("A".into(), "2".into())],
        ..Configuration::default()
    };
    let mut guest = Guest::new(&configuration, World::default());
    let sizes = [Val::I32(RESULT), Val::I32(RESULT + 4)];
    assert_eq!(guest.call("args_sizes_get", &sizes), SUCCESS);
    assert_eq!((guest.u32(RESULT), guest.u32(RESULT + 4)), (3, 12));
    let places = [Val::I32(RESULT), Val::I32(BUFFER)];
    assert_eq!(guest.call("args_get", &places), SUCCESS);
    assert_eq!(guest.bytes(BUFFER, 12), b"app\0\0w\xc3\xb6rld\0");
    assert_eq!(guest.u32(RESULT + 8), guest.u32(RESULT) + 5);
    assert_eq!(guest.call("environ_sizes_get", &sizes), SUCCESS);
    assert_eq!((guest.u32(RESULT), guest.u32(RESULT + 4)), (1, 4));
    assert_eq!(guest.call("environ_get", &places), SUCCESS);
    assert_eq!(guest.bytes(BUFFER, 4), b"A=2\0");
}

/// The time of this machine, in nanoseconds since the UNIX epoch.
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_nanos().try_into().unwrap()
}

#[test]
fn clocks() {
    let mut guest = Guest::private();
    for clock in [0, 1] {
        let arguments = [Val::I32(clock), Val::I32(RESULT)];
        assert_eq!(guest.call("clock_res_get", &arguments), SUCCESS);
        assert!(guest.u64(RESULT) > 0);
    }
    let time = |guest: &mut Guest, clock| {
        let arguments = [Val::I32(clock), Val::I64(0), Val::I32(RESULT)];
        (guest.call("clock_time_get", &arguments), guest.u64(RESULT))
    };
    let (errno, now) = time(&mut guest, 0);
    assert_eq!(errno, SUCCESS);
    assert!(now_ns().abs_diff(now) < 60_000_000_000);
    let (_, first) = time(&mut guest, 1);
    let (_, second) = time(&mut guest, 1);
    assert!(second >= first);
    for (clock, errno) in [(2, BADF), (3, BADF), (4, INVAL)] {
        assert_eq!(time(&mut guest, clock).0, errno);
        let arguments = [Val::I32(clock), Val::I32(RESULT)];
        assert_eq!(guest.call("clock_res_get", &arguments), errno);
    }
}

#[test]
fn random_bytes_and_small_functions() {
    let mut guest = Guest::private();
    let arguments = [Val::I32(BUFFER), Val::I32(64)];
    assert_eq!(guest.call("random_get", &arguments), SUCCESS);
    let first = guest.bytes(BUFFER, 64);
    assert_eq!(guest.call("random_get", &arguments), SUCCESS);
    assert_ne!(first, guest.bytes(BUFFER, 64));
    assert_ne!(first, vec![0; 64]);
    let none = [Val::I32(BUFFER), Val::I32(0)];
    assert_eq!(guest.call("random_get", &none), SUCCESS);
    assert_eq!(guest.call("sched_yield", &[]), SUCCESS);
    assert_eq!(guest.call("proc_raise", &[Val::I32(6)]), NOTSUP);
    assert_eq!(guest.call("proc_raise", &[Val::I32(99)]), INVAL);
}

/// A C library requests random numbers before `main`, for its stack protector, and can do without.
#[test]
fn no_entropy_is_an_error_for_the_program_to_see() {
    const IO: i32 = 29;
    let mut guest = Guest::changed(&Configuration::default(), World::default(), |context| {
        context.random = Random::seeded_by(|_| Err(getrandom::Error::UNSUPPORTED));
    });
    let arguments = [Val::I32(BUFFER), Val::I32(64)];
    assert_eq!(guest.call("random_get", &arguments), IO);
    assert_eq!(guest.bytes(BUFFER, 64), vec![0; 64]);
    assert_eq!(guest.call("sched_yield", &[]), SUCCESS);
}

#[test]
fn exit_codes() {
    let engine = Engine::default();
    let text = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "go") (param i32) (call $exit (local.get 0))))"#;
    let module = Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
    let mut linker = Linker::new(&engine);
    assert!(preview1::define(&mut linker, "proc_exit").unwrap());
    let mut guest = Guest::private();
    let mut store = Store::new(&engine, {
        let (port, _) = InProcess::start(World::default());
        let budget = Budget::new(0);
        let context = Context::new(
            &port,
            &Configuration::default(),
            &budget,
            Surroundings::default(),
        );
        State(Preview1::new(context.unwrap()))
    });
    let instance = linker.instantiate(&mut store, &module).unwrap();
    let go = instance
        .get_typed_func::<i32, ()>(&mut store, "go")
        .unwrap();
    for code in [0, 1, 125] {
        let error = go.call(&mut store, code).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&enarx_wasi::Exit(code)));
    }
    for code in [126, -1] {
        let error = go.call(&mut store, code).unwrap_err();
        assert!(error.downcast_ref::<enarx_wasi::Exit>().is_none());
        assert_eq!(error.downcast_ref(), Some(&CallTrap::ExitCode));
    }
    assert_eq!(guest.call("sched_yield", &[]), SUCCESS);
}

#[test]
fn pointers_out_of_bounds_or_misaligned_trap() {
    let mut guest = Guest::private();
    let end: u32 = 64 * 65536;
    let outside = |pointer, length| CallTrap::OutOfBounds { pointer, length };
    let misaligned = |pointer, alignment| CallTrap::Misaligned { pointer, alignment };
    let address = |pointer: u32| Val::I32(pointer.cast_signed());
    for (name, arguments, expected) in [
        (
            "random_get",
            vec![address(end - 1), Val::I32(2)],
            outside(end - 1, 2),
        ),
        (
            "random_get",
            vec![address(u32::MAX), Val::I32(2)],
            outside(u32::MAX, 2),
        ),
        (
            "clock_time_get",
            vec![Val::I32(1), Val::I64(0), address(end)],
            outside(end, 8),
        ),
        (
            "clock_time_get",
            vec![Val::I32(1), Val::I64(0), Val::I32(4)],
            misaligned(4, 8),
        ),
        (
            "fd_write",
            vec![Val::I32(1), address(end - 4), Val::I32(1), Val::I32(RESULT)],
            outside(end - 4, 8),
        ),
        (
            "fd_write",
            vec![Val::I32(1), Val::I32(2), Val::I32(1), Val::I32(RESULT)],
            misaligned(2, 4),
        ),
        (
            "fd_prestat_get",
            vec![Val::I32(DIR), address(end)],
            outside(end, 4),
        ),
        (
            "path_unlink_file",
            vec![Val::I32(DIR), address(end), Val::I32(1)],
            outside(end, 1),
        ),
    ] {
        let error = guest.try_call(name, &arguments).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&expected), "{name}: {error:?}");
    }
    // The last byte is still inside.
    assert_eq!(
        guest.call("random_get", &[address(end - 1), Val::I32(1)]),
        SUCCESS
    );
}

#[test]
fn standard_streams() {
    let configuration = Configuration {
        terminals: Terminals {
            stdout: true,
            ..Terminals::default()
        },
        ..Configuration::default()
    };
    let world = World {
        stdin: b"some input".to_vec(),
        ..World::default()
    };
    let mut guest = Guest::new(&configuration, world);
    assert_eq!(guest.read(0, 0).unwrap(), b"");
    assert_eq!(guest.read(0, 4).unwrap(), b"some");
    assert_eq!(guest.read(0, 100).unwrap(), b" input");
    assert_eq!(guest.read(0, 100).unwrap(), b"");
    let large: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    assert_eq!(guest.write(1, &large).unwrap() as usize, large.len());
    assert_eq!(guest.write(2, b"err").unwrap(), 3);
    assert_eq!(guest.write(1, b"").unwrap(), 0);
    assert_eq!(guest.host.stdout(), large);
    assert_eq!(guest.host.stderr(), b"err");
    assert_eq!(guest.read(1, 1), Err(BADF));
    assert_eq!(guest.write(0, b"x"), Err(BADF));
    for fd in 0..3 {
        assert_eq!(guest.seek(fd, 0, 1), Err(SPIPE));
        assert_eq!(guest.result("fd_tell", &[Val::I32(fd)]), Err(SPIPE));
        assert_eq!(guest.fstat(fd).unwrap().size, 0);
        assert_eq!(guest.call("fd_sync", &[Val::I32(fd)]), BADF);
    }
    assert_eq!(guest.pread(0, 1, 0), Err(SPIPE));
    assert_eq!(guest.pwrite(1, b"x", 0), Err(SPIPE));
    // Only the terminal is a character device, and reports its rights.
    for (fd, kind, rights) in [(0, 0, READ), (1, 2, WRITE), (2, 0, WRITE)] {
        let arguments = [Val::I32(fd), Val::I32(RESULT)];
        assert_eq!(guest.call("fd_fdstat_get", &arguments), SUCCESS);
        assert_eq!(guest.bytes(RESULT, 1), [kind]);
        assert_eq!(guest.u64(RESULT + 8), u64::try_from(rights).unwrap());
    }
    guest.host.close_stdout();
    assert_eq!(guest.write(1, b"x"), Err(PIPE));
    assert_eq!(guest.close(1), SUCCESS);
    assert_eq!(guest.write(1, b"x"), Err(BADF));
}

#[test]
fn bad_descriptors() {
    let mut guest = Guest::private();
    for fd in [99, -1] {
        for (name, signature) in SIGNATURES
            .iter()
            .filter(|(name, _)| name.starts_with("fd_"))
        {
            let arguments: Vec<Val> = signature
                .chars()
                .enumerate()
                .map(|(index, c)| match (index, c) {
                    (0, _) => Val::I32(fd),
                    (_, 'I') => Val::I64(0),
                    _ => Val::I32(0),
                })
                .collect();
            assert_eq!(guest.call(name, &arguments), BADF, "{name}");
        }
        assert_eq!(guest.path("path_unlink_file", fd, "a"), BADF);
        assert_eq!(guest.path("path_create_directory", fd, "a"), BADF);
        assert_eq!(guest.path("path_remove_directory", fd, "a"), BADF);
        for name in ["sock_accept", "sock_recv", "sock_send", "sock_shutdown"] {
            let count = SIGNATURES.iter().find(|(n, _)| *n == name).unwrap().1.len();
            let mut arguments = vec![Val::I32(0); count];
            arguments[0] = Val::I32(fd);
            assert_eq!(guest.call(name, &arguments), BADF, "{name}");
            arguments[0] = Val::I32(1);
            assert_eq!(guest.call(name, &arguments), NOTSOCK, "{name}");
        }
    }
    assert_eq!(guest.path("path_create_directory", 1, "a"), BADF);
    assert_eq!(guest.result("fd_prestat_get", &[Val::I32(0)]), Err(BADF));
}

#[test]
fn preopened_directories() {
    for (mut guest, name) in Guest::each().into_iter().zip(["/", "/data"]) {
        let length = u32::try_from(name.len()).unwrap();
        let arguments = [Val::I32(DIR), Val::I32(RESULT)];
        assert_eq!(guest.call("fd_prestat_get", &arguments), SUCCESS);
        assert_eq!((guest.u32(RESULT), guest.u32(RESULT + 4)), (0, length));
        let length = i32::try_from(length).unwrap();
        let name_of = |length| [Val::I32(DIR), Val::I32(BUFFER), Val::I32(length)];
        assert_eq!(guest.call("fd_prestat_dir_name", &name_of(length)), SUCCESS);
        assert_eq!(guest.bytes(BUFFER, name.len()), name.as_bytes());
        assert_eq!(
            guest.call("fd_prestat_dir_name", &name_of(length - 1)),
            NAMETOOLONG
        );
        let next = [Val::I32(DIR + 1), Val::I32(RESULT)];
        assert_eq!(guest.call("fd_prestat_get", &next), BADF);
        let fd = guest.open("d", CREAT, BOTH).unwrap();
        let arguments = [Val::I32(fd), Val::I32(BUFFER), Val::I32(8)];
        assert_eq!(guest.call("fd_prestat_dir_name", &arguments), NOTDIR);
    }
}

#[test]
fn files_are_written_and_read() {
    for mut guest in Guest::each() {
        let fd = guest.open("file", CREAT | EXCL, BOTH).unwrap();
        assert_eq!(guest.write(fd, b"hello world").unwrap(), 11);
        assert_eq!(guest.result("fd_tell", &[Val::I32(fd)]).unwrap(), 11);
        assert_eq!(guest.seek(fd, 6, 0).unwrap(), 6);
        assert_eq!(guest.read(fd, 100).unwrap(), b"world");
        assert_eq!(guest.read(fd, 100).unwrap(), b"");
        assert_eq!(guest.seek(fd, -5, 2).unwrap(), 6);
        assert_eq!(guest.seek(fd, 1, 1).unwrap(), 7);
        assert_eq!(guest.seek(fd, -8, 1), Err(INVAL));
        assert_eq!(guest.seek(fd, -1, 0), Err(INVAL));
        assert_eq!(guest.seek(fd, 0, 3), Err(INVAL));
        assert_eq!(guest.pread(fd, 5, 0).unwrap(), b"hello");
        assert_eq!(guest.pwrite(fd, b"HE", 0).unwrap(), 2);
        assert_eq!(guest.pread(fd, 100, 0).unwrap(), b"HEllo world");
        assert_eq!(guest.pread(fd, 100, 50).unwrap(), b"");
        assert_eq!(guest.read(fd, 0).unwrap(), b"");
        assert_eq!(guest.write(fd, b"").unwrap(), 0);
        // For a directory as well: the names in it.
        for fd in [fd, DIR] {
            for name in ["fd_sync", "fd_datasync"] {
                assert_eq!(guest.call(name, &[Val::I32(fd)]), SUCCESS, "{name} {fd}");
            }
        }
        let advise = |advice| [Val::I32(fd), Val::I64(0), Val::I64(10), Val::I32(advice)];
        assert_eq!(guest.call("fd_advise", &advise(3)), SUCCESS);
        assert_eq!(guest.call("fd_advise", &advise(6)), INVAL);
        let allocate = [Val::I32(fd), Val::I64(0), Val::I64(10)];
        assert_eq!(guest.call("fd_allocate", &allocate), NOTSUP);
        let rights = [Val::I32(fd), Val::I64(0), Val::I64(0)];
        assert_eq!(guest.call("fd_fdstat_set_rights", &rights), NOTSUP);
        assert_eq!(guest.close(fd), SUCCESS);
        assert_eq!(guest.close(fd), BADF);
        assert_eq!(guest.open("file", CREAT | EXCL, BOTH), Err(EXIST));
        let fd = guest.open("file", TRUNC, BOTH).unwrap();
        assert_eq!(guest.fstat(fd).unwrap().size, 0);
    }
}

#[test]
fn accesses_without_the_right_are_refused() {
    for mut guest in Guest::each() {
        guest.create("file", b"content");
        let reader = guest.open("file", 0, READ).unwrap();
        assert_eq!(guest.write(reader, b"x"), Err(BADF));
        let size = [Val::I32(reader), Val::I64(3)];
        assert_eq!(guest.call("fd_filestat_set_size", &size), INVAL);
        let writer = guest.open("file", 0, WRITE).unwrap();
        assert_eq!(guest.read(writer, 1), Err(BADF));
        assert_eq!(guest.open_with("file", 0, 0, READ, SYNC), Err(NOTSUP));
        assert_eq!(guest.open_with("file", 2, 0, READ, 0), Err(INVAL));
        assert_eq!(guest.open_with("file", 0, 16, READ, 0), Err(INVAL));
        assert_eq!(guest.open_with("file", 0, 0, 1 << 40, 0), Err(INVAL));
        assert_eq!(guest.open_with("file", 0, 0, READ, 32), Err(INVAL));
        assert_eq!(guest.open("file", DIRECTORY, READ), Err(NOTDIR));
        assert_eq!(guest.open("file", DIRECTORY | CREAT, READ), Err(INVAL));
        assert_eq!(guest.open("missing", 0, READ), Err(NOENT));
        assert_eq!(guest.open(".", 0, BOTH), Err(ISDIR));
        let [pointer, length] = guest.text(TEXT, "x");
        let arguments = [
            Val::I32(reader),
            Val::I32(0),
            pointer,
            length,
            Val::I32(0),
            Val::I64(READ),
            Val::I64(0),
            Val::I32(0),
            Val::I32(RESULT),
        ];
        assert_eq!(guest.call("path_open", &arguments), NOTDIR);
    }
}

#[test]
fn appending() {
    for mut guest in Guest::each() {
        guest.create("log", b"one");
        let fd = guest.open_with("log", 0, 0, BOTH, APPEND).unwrap();
        assert_eq!(guest.write(fd, b"two").unwrap(), 3);
        assert_eq!(guest.result("fd_tell", &[Val::I32(fd)]).unwrap(), 6);
        // As on Linux, the offset of an appending descriptor is ignored.
        assert_eq!(guest.pwrite(fd, b"!", 0).unwrap(), 1);
        assert_eq!(guest.content("log").unwrap(), b"onetwo!");
        let flags = |flags| [Val::I32(fd), Val::I32(flags)];
        assert_eq!(
            guest.call("fd_fdstat_get", &[Val::I32(fd), Val::I32(RESULT)]),
            SUCCESS
        );
        assert_eq!(guest.bytes(RESULT + 2, 2), [1, 0]);
        assert_eq!(guest.call("fd_fdstat_set_flags", &flags(0)), SUCCESS);
        assert_eq!(guest.call("fd_fdstat_set_flags", &flags(SYNC)), INVAL);
        assert_eq!(guest.call("fd_fdstat_set_flags", &flags(64)), INVAL);
        assert_eq!(guest.pwrite(fd, b"O", 0).unwrap(), 1);
        assert_eq!(guest.content("log").unwrap(), b"Onetwo!");
    }
}

#[test]
fn sizes_and_offsets_past_four_gibibytes() {
    for mut guest in Guest::each() {
        let fd = guest.open("sparse", CREAT, BOTH).unwrap();
        let far = (1_i64 << 32) + 12345;
        assert_eq!(guest.pwrite(fd, b"far", far).unwrap(), 3);
        assert_eq!(guest.fstat(fd).unwrap().size, (1 << 32) + 12348);
        assert_eq!(guest.pread(fd, 5, far - 2).unwrap(), b"\0\0far");
        assert_eq!(guest.seek(fd, far, 0).unwrap(), (1 << 32) + 12345);
        assert_eq!(guest.read(fd, 10).unwrap(), b"far");
        assert_eq!(guest.pwrite(fd, b"xx", i64::MAX - 1), Err(INVAL));
        assert_eq!(guest.pwrite(fd, b"x", -1), Err(INVAL));
        assert_eq!(guest.pread(fd, 1, -1), Err(INVAL));
        let size = |size| [Val::I32(fd), Val::I64(size)];
        assert_eq!(guest.call("fd_filestat_set_size", &size(-1)), INVAL);
        assert_eq!(guest.call("fd_filestat_set_size", &size(4)), SUCCESS);
        assert_eq!(guest.fstat(fd).unwrap().size, 4);
        assert_eq!(guest.call("fd_filestat_set_size", &size(70_000)), SUCCESS);
        assert_eq!(guest.pread(fd, 2, 69_998).unwrap(), b"\0\0");
        // Truncated bytes do not come back.
        assert_eq!(guest.call("fd_filestat_set_size", &size(1 << 33)), SUCCESS);
        assert_eq!(guest.pread(fd, 3, far).unwrap(), b"\0\0\0");
    }
}

#[test]
fn a_huge_read_or_write_is_split_into_pieces() {
    for mut guest in Guest::each() {
        let large: Vec<u8> = (0..700_000_u32).map(|i| (i % 241) as u8).collect();
        let fd = guest.open("large", CREAT, BOTH).unwrap();
        assert_eq!(guest.write(fd, &large).unwrap() as usize, large.len());
        assert_eq!(guest.pread(fd, 2_000_000, 0).unwrap(), large);
    }
}

#[test]
fn vectors_are_taken_one_buffer_at_a_time() {
    let mut guest = Guest::private();
    let fd = guest.open("file", CREAT, BOTH).unwrap();
    guest.put(BUFFER, b"abcdef");
    let vectors: Vec<u8> = [(BUFFER, 0), (BUFFER, 3), (BUFFER + 3, 3)]
        .iter()
        .flat_map(|(pointer, length): &(i32, i32)| {
            [pointer.to_le_bytes(), length.to_le_bytes()].concat()
        })
        .collect();
    guest.put(VECTORS, &vectors);
    let arguments = [Val::I32(fd), Val::I32(VECTORS), Val::I32(3)];
    assert_eq!(guest.result("fd_write", &arguments).unwrap(), 3);
    let none = [Val::I32(fd), Val::I32(VECTORS), Val::I32(0)];
    assert_eq!(guest.result("fd_write", &none).unwrap(), 0);
    assert_eq!(guest.content("file").unwrap(), b"abc");
}

/// A directory of the host has its own order.
fn sorted(mut names: Vec<(String, u8)>) -> Vec<(String, u8)> {
    names.sort();
    names
}

#[test]
fn directories() {
    for mut guest in Guest::each() {
        assert_eq!(guest.path("path_create_directory", DIR, "a"), SUCCESS);
        assert_eq!(guest.path("path_create_directory", DIR, "a"), EXIST);
        assert_eq!(guest.path("path_create_directory", DIR, "a/b/"), SUCCESS);
        assert_eq!(guest.path("path_create_directory", DIR, "x/y"), NOENT);
        guest.create("a/file", b"1");
        assert_eq!(guest.path("path_create_directory", DIR, "a/file/x"), NOTDIR);
        assert_eq!(guest.path("path_remove_directory", DIR, "a"), NOTEMPTY);
        assert_eq!(guest.path("path_remove_directory", DIR, "a/file"), NOTDIR);
        assert_eq!(guest.path("path_remove_directory", DIR, "missing"), NOENT);
        assert_eq!(guest.path("path_unlink_file", DIR, "a/b"), ISDIR);
        assert_eq!(guest.path("path_unlink_file", DIR, "a/file/"), NOTDIR);
        assert_eq!(guest.path("path_unlink_file", DIR, "missing"), NOENT);
        let fd = guest.open("a", DIRECTORY, READ).unwrap();
        let expected = [(".", 3), ("..", 3), ("b", 3), ("file", 4)]
            .map(|(name, kind)| (name.to_owned(), kind));
        for length in [4096, 64, 40] {
            assert_eq!(sorted(guest.list(fd, length)), expected);
        }
        assert_eq!(guest.read(fd, 1), Err(BADF));
        assert_eq!(guest.write(fd, b"x"), Err(BADF));
        assert_eq!(guest.seek(fd, 0, 0), Err(BADF));
        assert_eq!(guest.path("path_remove_directory", DIR, "a/b"), SUCCESS);
        assert_eq!(guest.path("path_unlink_file", DIR, "a/file"), SUCCESS);
        assert_eq!(guest.path("path_remove_directory", DIR, "a"), SUCCESS);
        // The directory is gone, its descriptor still exists.
        assert_eq!(guest.list(fd, 4096).len(), 2);
        assert_eq!(guest.path("path_create_directory", fd, "x"), NOENT);
    }
}

#[test]
fn a_long_directory_is_listed_whole() {
    for mut guest in Guest::each() {
        for index in 0..1500 {
            guest.create(&format!("file-with-a-long-name-{index:05}"), b"");
        }
        let before = guest.host.calls();
        let names = sorted(guest.list(DIR, 1000));
        assert_eq!(names.len(), 1502);
        assert_eq!(names[1501].0, "file-with-a-long-name-01499");
        // However small the pieces are that the program reads, the host's directory is read once: beside
        // that, each of some 80 pieces costs one call. Reading it for each would cost three and more.
        let calls = guest.host.calls() - before;
        assert!(calls < 100, "{calls} calls");
    }
}

#[test]
fn files_are_removed_while_they_are_listed() {
    for mut guest in Guest::each() {
        assert_eq!(guest.path("path_create_directory", DIR, "d"), SUCCESS);
        for index in 0..300 {
            guest.create(&format!("d/{index}"), b"");
        }
        let fd = guest.open("d", DIRECTORY, READ).unwrap();
        let mut cookie = 0;
        loop {
            let arguments = [
                Val::I32(fd),
                Val::I32(BUFFER),
                Val::I32(60),
                Val::I64(cookie),
            ];
            let used = guest.result("fd_readdir", &arguments).unwrap() as usize;
            let bytes = guest.bytes(BUFFER, used);
            let Some(header) = bytes.first_chunk::<24>() else {
                break;
            };
            let length = u32::from_le_bytes(header[16..20].try_into().unwrap()) as usize;
            let name = String::from_utf8(bytes[24..24 + length].to_vec()).unwrap();
            if !name.starts_with('.') {
                assert_eq!(guest.path("path_unlink_file", fd, &name), SUCCESS, "{name}");
            }
            cookie = i64::from_le_bytes(header[..8].try_into().unwrap());
        }
        assert_eq!(guest.path("path_remove_directory", DIR, "d"), SUCCESS);
    }
}

#[test]
fn escapes_are_refused() {
    for mut guest in Guest::each() {
        assert_eq!(guest.path("path_create_directory", DIR, "inner"), SUCCESS);
        for path in [
            "..",
            "../x",
            "inner/../../x",
            "/",
            "/etc/passwd",
            "inner/../..",
        ] {
            assert_eq!(guest.open(path, 0, READ), Err(PERM), "{path}");
            assert_eq!(guest.stat(path, 0), Err(PERM), "{path}");
            assert_eq!(guest.path("path_unlink_file", DIR, path), PERM, "{path}");
            assert_eq!(
                guest.path("path_create_directory", DIR, path),
                PERM,
                "{path}"
            );
        }
        guest.create("file", b"inside");
        assert_eq!(guest.rename("file", "../file"), PERM);
        assert_eq!(guest.link(0, "../file", "x"), PERM);
        assert_eq!(guest.content("inner/../file").unwrap(), b"inside");
        // Links that lead out are created if they are relative, never followed.
        assert_eq!(guest.symlink("/etc/passwd", "absolute"), PERM);
        assert_eq!(guest.symlink("../outside", "out"), SUCCESS);
        assert_eq!(guest.open("out", 0, READ), Err(PERM));
        assert_eq!(guest.stat("out", FOLLOW), Err(PERM));
        assert_eq!(guest.stat("out", 0).unwrap().kind, 7);
        assert_eq!(guest.symlink("..", "inner/up"), SUCCESS);
        assert_eq!(guest.content("inner/up/file").unwrap(), b"inside");
        // A directory opened below is a separate boundary.
        let inner = guest.open("inner", DIRECTORY, READ).unwrap();
        assert_eq!(guest.path("path_unlink_file", inner, "../file"), PERM);
        assert_eq!(guest.path("path_unlink_file", inner, "up/file"), PERM);
    }
}

#[test]
fn symbolic_links() {
    for mut guest in Guest::each() {
        guest.create("file", b"content");
        assert_eq!(guest.symlink("file", "link"), SUCCESS);
        assert_eq!(guest.symlink("file", "link"), EXIST);
        assert_eq!(guest.content("link").unwrap(), b"content");
        assert_eq!(guest.open_with("link", 0, 0, READ, 0), Err(LOOP));
        assert_eq!(guest.open("link", CREAT | EXCL, BOTH), Err(EXIST));
        let link = guest.stat("link", 0).unwrap();
        assert_eq!((link.kind, link.size), (7, 4));
        assert_eq!(guest.stat("link", FOLLOW).unwrap().kind, 4);
        let read_link = |guest: &mut Guest, path: &str, length: i32| {
            let [pointer, path_length] = guest.text(TEXT, path);
            let arguments = [
                Val::I32(DIR),
                pointer,
                path_length,
                Val::I32(BUFFER),
                Val::I32(length),
            ];
            let used = guest.result("path_readlink", &arguments)?;
            Ok::<_, i32>(guest.bytes(BUFFER, used as usize))
        };
        assert_eq!(read_link(&mut guest, "link", 100).unwrap(), b"file");
        assert_eq!(read_link(&mut guest, "link", 2).unwrap(), b"fi");
        assert_eq!(read_link(&mut guest, "link", 0).unwrap(), b"");
        assert_eq!(read_link(&mut guest, "file", 100), Err(INVAL));
        assert_eq!(read_link(&mut guest, "missing", 100), Err(NOENT));
        assert_eq!(guest.symlink("loop", "loop"), SUCCESS);
        assert_eq!(guest.open("loop", 0, READ), Err(LOOP));
        assert_eq!(guest.symlink("missing", "dangling"), SUCCESS);
        assert_eq!(guest.open("dangling", 0, READ), Err(NOENT));
        assert_eq!(guest.path("path_unlink_file", DIR, "link"), SUCCESS);
        assert_eq!(guest.content("file").unwrap(), b"content");
    }
}

#[test]
fn hard_links_and_unnamed_files() {
    for mut guest in Guest::each() {
        guest.create("one", b"content");
        assert_eq!(guest.link(0, "one", "two"), SUCCESS);
        assert_eq!(guest.link(0, "one", "two"), EXIST);
        assert_eq!(guest.link(FOLLOW, "one", "three"), INVAL);
        assert_eq!(guest.link(0, "missing", "three"), NOENT);
        assert_eq!(guest.path("path_create_directory", DIR, "dir"), SUCCESS);
        assert_eq!(guest.link(0, "dir", "three"), PERM);
        let (one, two) = (guest.stat("one", 0).unwrap(), guest.stat("two", 0).unwrap());
        assert_eq!((one.inode, one.links), (two.inode, 2));
        let fd = guest.open("one", 0, BOTH).unwrap();
        assert_eq!(guest.path("path_unlink_file", DIR, "one"), SUCCESS);
        assert_eq!(guest.path("path_unlink_file", DIR, "two"), SUCCESS);
        assert_eq!(guest.fstat(fd).unwrap().links, 0);
        assert_eq!(guest.pwrite(fd, b"C", 0).unwrap(), 1);
        assert_eq!(guest.pread(fd, 10, 0).unwrap(), b"Content");
        assert_eq!(guest.close(fd), SUCCESS);
    }
}

#[test]
fn renaming() {
    for mut guest in Guest::each() {
        guest.create("a", b"a");
        guest.create("b", b"b");
        assert_eq!(guest.rename("a", "b"), SUCCESS);
        assert_eq!(guest.content("b").unwrap(), b"a");
        assert_eq!(guest.content("a"), Err(NOENT));
        assert_eq!(guest.rename("missing", "x"), NOENT);
        assert_eq!(guest.rename("b", "b"), SUCCESS);
        assert_eq!(guest.path("path_create_directory", DIR, "d"), SUCCESS);
        assert_eq!(guest.path("path_create_directory", DIR, "d/e"), SUCCESS);
        assert_eq!(guest.rename("b", "d"), ISDIR);
        assert_eq!(guest.rename("d", "b"), NOTDIR);
        assert_eq!(guest.rename("d", "d/e/f"), INVAL);
        assert_eq!(guest.path("path_create_directory", DIR, "g"), SUCCESS);
        assert_eq!(guest.rename("g", "d"), NOTEMPTY);
        assert_eq!(guest.rename("d/e", "g"), SUCCESS);
        assert_eq!(guest.rename("g", "d/e"), SUCCESS);
        assert_eq!(guest.rename("b", "d/e/b"), SUCCESS);
        assert_eq!(guest.content("d/e/b").unwrap(), b"a");
        assert_eq!(guest.rename("d", "moved"), SUCCESS);
        assert_eq!(guest.content("moved/e/../e/b").unwrap(), b"a");
    }
}

#[test]
fn times() {
    for mut guest in Guest::each() {
        guest.create("file", b"");
        let fd = guest.open("file", 0, BOTH).unwrap();
        let by_fd = |flags| {
            [
                Val::I32(fd),
                Val::I64(1_000_000_007),
                Val::I64(2_000_000_009),
                Val::I32(flags),
            ]
        };
        assert_eq!(guest.call("fd_filestat_set_times", &by_fd(1 | 4)), SUCCESS);
        let stat = guest.fstat(fd).unwrap();
        assert_eq!(
            (stat.accessed, stat.modified),
            (1_000_000_007, 2_000_000_009)
        );
        assert_eq!(guest.call("fd_filestat_set_times", &by_fd(1 | 2)), INVAL);
        assert_eq!(guest.call("fd_filestat_set_times", &by_fd(16)), INVAL);
        assert_eq!(guest.call("fd_filestat_set_times", &by_fd(8)), SUCCESS);
        let stat = guest.fstat(fd).unwrap();
        assert_eq!(stat.accessed, 1_000_000_007);
        assert!(now_ns().abs_diff(stat.modified) < 60_000_000_000);
        let [pointer, length] = guest.text(TEXT, "file");
        let by_path = |flags| {
            [
                Val::I32(DIR),
                Val::I32(0),
                pointer,
                length,
                Val::I64(5),
                Val::I64(6),
                Val::I32(flags),
            ]
        };
        assert_eq!(
            guest.call("path_filestat_set_times", &by_path(1 | 4)),
            SUCCESS
        );
        assert_eq!(
            guest.call("path_filestat_set_times", &by_path(4 | 8)),
            INVAL
        );
        let stat = guest.stat("file", 0).unwrap();
        assert_eq!((stat.accessed, stat.modified), (5, 6));
    }
}

#[test]
fn renumbering() {
    let mut guest = Guest::private();
    guest.create("a", b"a");
    guest.create("b", b"b");
    let a = guest.open("a", 0, READ).unwrap();
    let b = guest.open("b", 0, READ).unwrap();
    let renumber = |from, to| [Val::I32(from), Val::I32(to)];
    assert_eq!(guest.call("fd_renumber", &renumber(a, a)), SUCCESS);
    assert_eq!(guest.call("fd_renumber", &renumber(a, 77)), BADF);
    assert_eq!(guest.call("fd_renumber", &renumber(77, a)), BADF);
    assert_eq!(guest.call("fd_renumber", &renumber(b, a)), SUCCESS);
    assert_eq!(guest.read(a, 10).unwrap(), b"b");
    assert_eq!(guest.read(b, 10), Err(BADF));
    // The number that became free is used again.
    assert_eq!(guest.open("a", 0, READ).unwrap(), b);
}

#[test]
fn unusual_paths() {
    for mut guest in Guest::each() {
        guest.create("file", b"x");
        assert_eq!(guest.open("", 0, READ), Err(NOENT));
        assert_eq!(guest.open("fi\0le", 0, READ), Err(INVAL));
        assert_eq!(guest.open(&"n".repeat(256), 0, READ), Err(NAMETOOLONG));
        assert_eq!(guest.open(&"n/".repeat(3000), 0, READ), Err(NAMETOOLONG));
        assert_eq!(guest.open("file/", 0, READ), Err(NOTDIR));
        assert_eq!(guest.open("file/x", 0, READ), Err(NOTDIR));
        assert_eq!(guest.open("new/", CREAT, BOTH), Err(ISDIR));
        assert_eq!(guest.content("./file").unwrap(), b"x");
        assert_eq!(guest.stat(".", 0).unwrap().kind, 3);
        guest.put(TEXT, b"\xff\xfe");
        let arguments = [Val::I32(DIR), Val::I32(TEXT), Val::I32(2)];
        assert_eq!(guest.call("path_unlink_file", &arguments), ILSEQ);
    }
}

#[test]
fn a_read_only_directory_refuses_changes() {
    let mut guest = Guest::on_host(true);
    let calls = guest.host.calls();
    assert_eq!(guest.open("new", CREAT, BOTH), Err(PERM));
    assert_eq!(guest.open("new", CREAT, READ), Err(PERM));
    assert_eq!(guest.open("new", TRUNC, READ), Err(PERM));
    assert_eq!(guest.path("path_create_directory", DIR, "d"), PERM);
    assert_eq!(guest.path("path_remove_directory", DIR, "d"), PERM);
    assert_eq!(guest.path("path_unlink_file", DIR, "f"), PERM);
    assert_eq!(guest.symlink("f", "l"), PERM);
    assert_eq!(guest.link(0, "f", "l"), PERM);
    assert_eq!(guest.rename("f", "l"), PERM);
    let times = [Val::I32(DIR), Val::I64(0), Val::I64(0), Val::I32(1)];
    assert_eq!(guest.call("fd_filestat_set_times", &times), PERM);
    // The Keep has refused all of them by itself.
    assert_eq!(guest.host.calls(), calls);
    let inner = guest.open(".", DIRECTORY, READ).unwrap();
    assert_eq!(guest.path("path_create_directory", inner, "d"), PERM);
}

#[test]
fn the_private_file_system_ends_with_the_budget() {
    let (port, _host) = InProcess::start(World::default());
    let context = Context::new(
        &port,
        &Configuration::default(),
        &Budget::new(1_100_000),
        Surroundings::default(),
    )
    .unwrap();
    let mut guest = Guest::private();
    *guest.store.data_mut() = State(Preview1::new(context));
    let fd = guest.open("file", CREAT, BOTH).unwrap();
    // The pieces of a slab.
    assert_eq!(guest.write(fd, &vec![1; 1_500_000]).unwrap(), 1 << 20);
    assert_eq!(guest.write(fd, &vec![1; 65_536]), Err(51));
    assert_eq!(
        guest.call("fd_filestat_set_size", &[Val::I32(fd), Val::I64(0)]),
        SUCCESS
    );
    assert_eq!(guest.pwrite(fd, &[2; 1000], 0).unwrap(), 1000);
}

#[test]
fn polling() {
    let world = World {
        stdin: b"x".to_vec(),
        ..World::default()
    };
    let mut guest = Guest::new(&Configuration::default(), world);
    guest.create("file", b"content");
    let fd = guest.open("file", 0, READ).unwrap();
    let subscription = |userdata: u64, kind: u8, first: u32, timeout: u64, flags: u16| {
        let mut bytes = vec![0; 48];
        bytes[0..8].copy_from_slice(&userdata.to_le_bytes());
        bytes[8] = kind;
        bytes[16..20].copy_from_slice(&first.to_le_bytes());
        bytes[24..32].copy_from_slice(&timeout.to_le_bytes());
        bytes[40..42].copy_from_slice(&flags.to_le_bytes());
        bytes
    };
    let poll = |guest: &mut Guest, subscriptions: &[Vec<u8>]| {
        guest.put(TEXT, &subscriptions.concat());
        let count = i32::try_from(subscriptions.len()).unwrap();
        let arguments = [Val::I32(TEXT), Val::I32(BUFFER), Val::I32(count)];
        let count = guest.result("poll_oneoff", &arguments)?;
        let events = guest.bytes(BUFFER, count as usize * 32);
        Ok::<_, i32>(
            events
                .chunks(32)
                .map(|event| {
                    (
                        u64::from_le_bytes(event[0..8].try_into().unwrap()),
                        event[10],
                    )
                })
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(poll(&mut guest, &[]), Err(INVAL));
    let start = std::time::Instant::now();
    let wait = subscription(7, 0, 1, 20_000_000, 0);
    assert_eq!(poll(&mut guest, &[wait]).unwrap(), [(7, 0)]);
    assert!(start.elapsed().as_millis() >= 20);
    // A time that has passed, on both clocks.
    for clock in [0, 1] {
        let past = subscription(8, 0, clock, 1, 1);
        assert_eq!(poll(&mut guest, &[past]).unwrap(), [(8, 0)]);
    }
    // Polling with a time limit of zero finds input that nobody has requested before.
    let look = [subscription(1, 0, 1, 0, 0), subscription(2, 1, 0, 0, 0)];
    assert_eq!(poll(&mut guest, &look).unwrap(), [(1, 0), (2, 1)]);
    let hour = 3_600_000_000_000;
    let ready = [
        subscription(1, 0, 1, hour, 0),
        subscription(2, 1, 0, 0, 0),
        subscription(3, 2, 1, 0, 0),
        subscription(4, 1, u32::try_from(fd).unwrap(), 0, 0),
    ];
    let events = poll(&mut guest, &ready).unwrap();
    assert!(events.contains(&(3, 2)) && events.contains(&(4, 1)));
    assert!(!events.iter().any(|(userdata, _)| *userdata == 1));
    let input = [subscription(1, 0, 1, hour, 0), subscription(2, 1, 0, 0, 0)];
    assert_eq!(poll(&mut guest, &input).unwrap(), [(2, 1)]);
    // Bytes that polling has read ahead are not lost.
    assert_eq!(guest.read(0, 10).unwrap(), b"x");
    assert_eq!(poll(&mut guest, &[subscription(1, 1, 55, 0, 0)]), Err(BADF));
    assert_eq!(poll(&mut guest, &[subscription(1, 2, 0, 0, 0)]), Err(BADF));
    assert_eq!(poll(&mut guest, &[subscription(1, 0, 2, 0, 0)]), Err(INVAL));
    assert_eq!(poll(&mut guest, &[subscription(1, 9, 0, 0, 0)]), Err(INVAL));
    assert_eq!(poll(&mut guest, &[subscription(1, 0, 1, 0, 4)]), Err(INVAL));
}
