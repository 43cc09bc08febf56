//! Pickles: nothing in them is run, whatever opcode asks for it, and what they announce costs nothing.

use jepa_ingest::Error;
use jepa_ingest::container::pickle::{Pickle, PickleError};
use jepa_ingest::container::pickle_file::PickleFile;
use jepa_ingest::container::torch_zip::TorchFile;

use super::memory::within;
use super::{Dice, Scratch};
use crate::support::zip::stored;

/// What pickles in the wild have called to run code, to open files or connections, or to get at something
/// that does.
const HARMFUL: &[(&str, &str)] = &[
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("os", "execv"),
    ("subprocess", "Popen"),
    ("subprocess", "check_output"),
    ("pty", "spawn"),
    ("commands", "getoutput"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "compile"),
    ("builtins", "__import__"),
    ("builtins", "getattr"),
    ("builtins", "open"),
    ("builtins", "map"),
    ("builtins", "str.format"),
    ("__builtin__", "eval"),
    ("__builtin__", "apply"),
    ("importlib", "import_module"),
    ("runpy", "_run_code"),
    ("code", "InteractiveInterpreter"),
    ("ctypes", "CDLL"),
    ("pickle", "loads"),
    ("_pickle", "loads"),
    ("marshal", "loads"),
    ("types", "FunctionType"),
    ("types", "CodeType"),
    ("functools", "partial"),
    ("operator", "attrgetter"),
    ("copyreg", "_reconstructor"),
    ("shutil", "rmtree"),
    ("tempfile", "mktemp"),
    ("socket", "create_connection"),
    ("urllib.request", "urlretrieve"),
    ("webbrowser", "open"),
    ("sys", "exit"),
    ("pip", "main"),
    // Names beside those that are allowed.
    ("torch", "load"),
    ("torch.hub", "load"),
    ("torch.serialization", "load"),
    ("torch._utils", "_import_dotted_name"),
    ("torch.utils._config_module", "load_config"),
    ("torch.storage", "_load_from_bytes"),
    ("torch", "FloatStorage.from_file"),
    ("numpy", "load"),
    ("numpy", "fromfile"),
    ("numpy.core.multiarray", "fromfile"),
    ("numpy.testing._private.utils", "runstring"),
    ("collections", "OrderedDict.__class__"),
    ("collections", ""),
    ("", "eval"),
    ("tensordictx", "run"),
    (" collections", "OrderedDict"),
];

/// Arguments that would leave a trace.
fn arguments(scratch: &Scratch) -> Vec<u8> {
    let command = format!("touch {}", scratch.folder.path().join("executed").display());
    let mut bytes = b"(X".to_vec();
    bytes.extend((command.len() as u32).to_le_bytes());
    bytes.extend(command.bytes());
    bytes.push(b't');
    bytes
}

fn short(text: &str) -> Vec<u8> {
    [&[0x8c, text.len() as u8], text.as_bytes()].concat()
}

fn forbidden(error: &PickleError, (module, name): (&str, &str)) {
    let expected = PickleError::Forbidden(format!("{module}.{name}"));
    assert_eq!(*error, expected);
}

#[test]
fn every_function_that_is_not_data_is_refused_by_name() {
    let scratch = Scratch::new("lengths.pkl");
    let arguments = arguments(&scratch);
    for &(module, name) in HARMFUL {
        let global = format!("c{module}\n{name}\n").into_bytes();
        let stacked = [short(module), short(name), vec![0x93]].concat();
        for function in [global, stacked] {
            // Called, built, thrown away, kept in the memo, as a key, deep inside, as an argument of what is
            // allowed.
            let uses: [Vec<Vec<u8>>; 7] = [
                vec![function.clone(), arguments.clone(), b"R".to_vec()],
                vec![function.clone(), arguments.clone(), vec![0x81]],
                vec![function.clone(), b"0N".to_vec()],
                vec![function.clone(), b"q\x000h\x00".to_vec()],
                vec![b"}".to_vec(), function.clone(), b"Ns".to_vec()],
                vec![b"]]](".to_vec(), function.clone(), b"eaa".to_vec()],
                vec![
                    b"ccollections\nOrderedDict\n".to_vec(),
                    function.clone(),
                    b"\x85R".to_vec(),
                ],
            ];
            for parts in uses {
                let pickle = [&b"\x80\x04"[..], &parts.concat(), b"."].concat();
                let error = Pickle::parse(&pickle).expect_err("refused");
                forbidden(&error, (module, name));
                let file = PickleFile::open(scratch.write(&pickle)).expect("a file");
                for refused in [file.integers().map(|_| ()), file.texts().map(|_| ())] {
                    assert!(
                        matches!(&refused, Err(Error::ForbiddenGlobal { name: found, .. }) if *found == format!("{module}.{name}")),
                        "{refused:?}"
                    );
                }
            }
        }
    }
    scratch.holds_nothing_else();
}

#[test]
fn torch_files_refuse_the_same_functions() {
    let scratch = Scratch::new("states.pth");
    let arguments = arguments(&scratch);
    for (module, name) in HARMFUL {
        let pickle = [
            &b"\x80\x02c"[..],
            format!("{module}\n{name}\n").as_bytes(),
            &arguments,
            b"R.",
        ]
        .concat();
        let archive = stored(&[("states/data.pkl", &pickle)]);
        let file = TorchFile::open(scratch.write(&archive)).expect("an archive");
        for refused in [file.tensor().map(|_| ()), file.tensors().map(|_| ())] {
            assert!(
                matches!(refused, Err(Error::ForbiddenGlobal { .. })),
                "{module}.{name}: {refused:?}"
            );
        }
    }
    scratch.holds_nothing_else();
}

/// INST and OBJ name or call a class, EXT looks one up in a registry, PERSID names something outside.
#[test]
fn opcodes_that_data_files_never_use_are_refused() {
    let programs: [&[u8]; 12] = [
        b"(S'true'\nios\nsystem\n.",
        b"(S'true'\nicollections\nOrderedDict\n.",
        b"(cos\nsystem\nS'true'\no.",
        b"(ccollections\nOrderedDict\no.",
        b"\x82\x01.",
        b"\x83\x01\x00.",
        b"\x84\x01\x00\x00\x00.",
        b"Pfile:///etc/passwd\n.",
        b"I01\n.",
        b"Vtext\n.",
        b"g0\n.",
        b"\x97\x98.",
    ];
    for program in programs {
        let found = Pickle::parse(&[b"\x80\x04", program].concat()).map(|_| ());
        assert!(
            matches!(
                found,
                Err(PickleError::Malformed { .. } | PickleError::Forbidden(_))
            ),
            "{program:?}: {found:?}"
        );
    }
}

#[test]
fn only_named_functions_can_be_called() {
    let allowed = "ccollections\nOrderedDict\n";
    let programs = [
        // The result of a call, text, a number and a list in place of a function.
        format!("{allowed})R)R."),
        "X\u{4}\0\0\0eval)R.".into(),
        "K\u{1})R.".into(),
        "])R.".into(),
        // State for something that has none, items for a function.
        "](K\u{1}tb.".into(),
        format!("{allowed}K\u{1}a."),
        "NK\u{1}a.".into(),
        "}K\u{1}a.".into(),
    ];
    for program in programs {
        let found = Pickle::parse(program.as_bytes()).map(|_| ());
        assert!(
            matches!(found, Err(PickleError::Malformed { .. })),
            "{program:?}: {found:?}"
        );
    }
}

#[test]
fn announced_lengths_cost_nothing() {
    let with = |opcode: u8, length: &[u8]| [&[0x80, 4, opcode], length, b"abc."].concat();
    let mut programs = Vec::new();
    for opcode in [0x8b, b'T', b'B', b'X'] {
        for length in [4, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            programs.push(with(opcode, &u32::to_le_bytes(length)));
        }
    }
    for opcode in [0x8d, 0x8e, 0x96] {
        for length in [5, 1 << 31, 1 << 32, 1 << 62, 1 << 63, u64::MAX] {
            programs.push(with(opcode, &u64::to_le_bytes(length)));
        }
    }
    for opcode in [b'U', b'C', 0x8c, 0x8a] {
        programs.push(with(opcode, &[0xff]));
    }
    for program in programs {
        let found = within(4096, || Pickle::parse(&program).map(|_| ()));
        assert!(
            matches!(found, Err(PickleError::Malformed { .. })),
            "{program:?}: {found:?}"
        );
    }
    // Integers that fit are read, those of more than 64 bits are not.
    let long = |digits: &[u8]| [&[0x8a, digits.len() as u8], digits, b"."].concat();
    let read = |digits: &[u8]| Pickle::parse(&long(digits)).map(|pickle| pickle.root().clone());
    assert!(read(&[0xff; 8]).is_ok());
    assert!(read(&[0x7f; 9]).is_err());
    // A frame may announce what it likes: it is not allocated, and what follows is read.
    let framed = [&b"\x80\x04\x95"[..], &[0xff; 8], b"]."].concat();
    assert!(within(4096, || Pickle::parse(&framed).is_ok()));
}

/// A list of two references to a list of two references to .., 2^60 items when written out.
fn laughter(wrap: fn(usize) -> Vec<u8>) -> Vec<u8> {
    let mut pickle = b"\x80\x04K\x01\x85q\x00".to_vec();
    for k in 0..60 {
        pickle.extend(wrap(k));
        pickle.extend([b'q', k as u8 + 1]);
    }
    pickle.push(b'.');
    pickle
}

#[test]
fn values_that_double_themselves_are_shared_and_visited_no_more_than_so_often() {
    let scratch = Scratch::new("a.pth");
    let wraps: [fn(usize) -> Vec<u8>; 4] = [
        |k| vec![b'h', k as u8, 0x86],
        |k| [&b"]("[..], &[b'h', k as u8, b'h', k as u8], b"e"].concat(),
        |k| {
            [
                &b"}("[..],
                &[b'K', 0, b'h', k as u8, b'K', 1, b'h', k as u8],
                b"u",
            ]
            .concat()
        },
        |k| {
            [
                &b"}(X\x01\0\0\0a"[..],
                &[b'h', k as u8],
                b"X\x01\0\0\0b",
                &[b'h', k as u8],
                b"u",
            ]
            .concat()
        },
    ];
    for wrap in wraps {
        let pickle = laughter(wrap);
        within(64 << 10, || Pickle::parse(&pickle).expect("shared values"));
        let archive = stored(&[("a/data.pkl", &pickle)]);
        let file = TorchFile::open(scratch.write(&archive)).expect("an archive");
        let found = within(16 << 20, || file.tensors().map(|tensors| tensors.len()));
        assert!(!matches!(found, Ok(1..)), "{found:?}");
        let list = PickleFile::open(scratch.write(&pickle)).expect("a file");
        assert!(within(64 << 10, || list.integers()).is_err());
    }
}

#[test]
fn values_that_hold_themselves_end() {
    let scratch = Scratch::new("a.pth");
    let programs: [&[u8]; 4] = [
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02}q\x00K\x01h\x00s.",
        b"\x80\x02}q\x00X\x01\0\0\0ah\x00s.",
        b"\x80\x02ccollections\nOrderedDict\n)Rq\x00X\x01\0\0\0ah\x00sh\x00b.",
    ];
    for program in programs {
        let archive = stored(&[("a/data.pkl", program)]);
        let file = TorchFile::open(scratch.write(&archive)).expect("an archive");
        let found = within(16 << 20, || file.tensors().map(|tensors| tensors.len()));
        assert!(!matches!(found, Ok(1..)), "{found:?}");
        assert!(file.tensor().is_err());
    }
}

#[test]
fn nesting_is_no_recursion() {
    let levels = 1 << 20;
    let marks = [vec![b'('; levels], b".".to_vec()].concat();
    assert!(Pickle::parse(&marks).is_err());
    let tuples = [b"N".to_vec(), vec![0x85; levels], b".".to_vec()].concat();
    let lists = [vec![b']'; levels], vec![b'a'; levels - 1], b".".to_vec()].concat();
    let scratch = Scratch::new("a.pth");
    for pickle in [tuples, lists] {
        // One node and its one item for every byte, in vectors that double.
        let most = 512 * pickle.len();
        within(most, || Pickle::parse(&pickle).expect("values"));
        let archive = stored(&[("a/data.pkl", &pickle)]);
        let file = TorchFile::open(scratch.write(&archive)).expect("an archive");
        let found = within(most, || file.tensors().map(|tensors| tensors.len()));
        assert!(!matches!(found, Ok(1..)), "{found:?}");
    }
}

#[test]
fn a_memo_costs_what_is_written_into_it() {
    let mut pickle = b"N".to_vec();
    for key in 0..50_000_u32 {
        pickle.push(b'r');
        pickle.extend(key.wrapping_mul(85_899).to_le_bytes());
    }
    pickle.push(b'.');
    within(16 * pickle.len(), || {
        Pickle::parse(&pickle).expect("nothing");
    });
}

#[test]
fn no_damage_of_a_pickle_does_more_than_an_error() {
    let scratch = Scratch::new("a.pth");
    let fixture = crate::support::fixture("bad/06_pusht_malicious_seq_lengths");
    let malicious = std::fs::read(fixture.join("pusht_noise/train/seq_lengths.pkl")).unwrap();
    let lengths = crate::support::fixture("pusht_noise/train/seq_lengths.pkl");
    let lengths = std::fs::read(lengths).unwrap();
    let mut dice = Dice(1);
    for pickle in [malicious, lengths] {
        for end in 0..pickle.len() {
            assert!(Pickle::parse(&pickle[..end]).is_err(), "cut at {end}");
        }
        for _ in 0..2000 {
            let damaged = dice.damage(&pickle);
            let archive = stored(&[("a/data.pkl", &damaged)]);
            within(1 << 20, || {
                let _ = Pickle::parse(&damaged).map(|_| ());
                let file = TorchFile::open(scratch.write(&archive)).expect("an archive");
                let _ = file.tensors().map(|tensors| tensors.len());
            });
        }
    }
    scratch.holds_nothing_else();
}
