//! A pickle reader that builds data and never runs anything.
//!
//! Pickle is a program for a stack machine. This machine knows the opcodes that data files of protocols
//! 2 to 5 use. A function or class may only be named if it is on a fixed list; being called, it
//! becomes a [`Node::Call`] that the container interprets. Every opcode adds at most one node, strings
//! stay where they are in the input, and shared values are shared, so memory is bounded by a constant
//! times the length of the input however it is written.

use std::collections::HashMap;
use std::ops::Range;

/// Longest pickle that is read. Those of data files describe tensors; they do not hold them.
const MAX_BYTES: usize = 64 << 20;
/// Deepest nesting of open marks. Data files need a handful.
const MAX_MARKS: usize = 1000;

/// Index of a node; nodes refer to each other by it.
pub type NodeId = u32;

/// One value of a pickle.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// Text: a range of the input, valid UTF-8.
    Text(Range<usize>),
    /// Bytes: a range of the input.
    Bytes(Range<usize>),
    /// A list or a set.
    List(Vec<NodeId>),
    /// A tuple.
    Tuple(Vec<NodeId>),
    /// A dictionary, in the order of insertion.
    Dict(Vec<(NodeId, NodeId)>),
    /// A function or class of the allow-list: module and name.
    Global(String, String),
    /// An object kept outside the pickle: a torch storage.
    Persistent(NodeId),
    /// A function or class with arguments, and the state it was given afterwards. Never executed.
    Call {
        /// What would be called.
        function: NodeId,
        /// Its arguments.
        args: NodeId,
        /// Argument of a later `BUILD`.
        state: Option<NodeId>,
        /// Pairs added later, to a subclass of dict.
        items: Vec<(NodeId, NodeId)>,
    },
}

/// Why a pickle was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PickleError {
    /// It names a function or class outside the allow-list, as `module.name`.
    Forbidden(String),
    /// It is malformed, too long, or uses an opcode that data files do not need.
    Malformed {
        /// Position in the pickle.
        at: usize,
        /// What is wrong there.
        detail: String,
    },
}

/// A pickle in memory.
#[derive(Debug)]
pub struct Pickle<'a> {
    input: &'a [u8],
    nodes: Vec<Node>,
    root: NodeId,
}

impl<'a> Pickle<'a> {
    /// Reads a whole pickle.
    pub fn parse(input: &'a [u8]) -> Result<Self, PickleError> {
        if input.len() > MAX_BYTES {
            return Err(PickleError::Malformed {
                at: 0,
                detail: format!("{} bytes are too many", input.len()),
            });
        }
        let mut machine = Machine::new(input);
        let root = machine.run()?;
        Ok(Self {
            input,
            nodes: machine.nodes,
            root,
        })
    }

    /// The value of the whole pickle.
    pub fn root(&self) -> &Node {
        self.node(self.root)
    }

    /// A value.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// The text of a [`Node::Text`].
    pub fn text(&self, id: NodeId) -> Option<&'a str> {
        match self.node(id) {
            Node::Text(range) => std::str::from_utf8(&self.input[range.clone()]).ok(),
            _ => None,
        }
    }

    /// The content of a [`Node::Bytes`].
    pub fn bytes(&self, id: NodeId) -> Option<&'a [u8]> {
        match self.node(id) {
            Node::Bytes(range) => self.input.get(range.clone()),
            _ => None,
        }
    }

    /// The value of a [`Node::Int`].
    pub fn int(&self, id: NodeId) -> Option<i64> {
        match self.node(id) {
            Node::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The items of a tuple.
    pub fn tuple(&self, id: NodeId) -> Option<&[NodeId]> {
        match self.node(id) {
            Node::Tuple(items) => Some(items),
            _ => None,
        }
    }
}

/// Modules and names that may be named. `*` stands for every name of a module or package.
const ALLOWED: &[(&str, &[&str])] = &[
    ("collections", &["OrderedDict"]),
    (
        "torch._utils",
        &[
            "_rebuild_tensor",
            "_rebuild_tensor_v2",
            "_rebuild_tensor_v3",
            "_rebuild_parameter",
        ],
    ),
    (
        "torch",
        &[
            "Size",
            "device",
            "FloatStorage",
            "DoubleStorage",
            "HalfStorage",
            "BFloat16Storage",
            "ByteStorage",
            "CharStorage",
            "ShortStorage",
            "IntStorage",
            "LongStorage",
            "BoolStorage",
            "ComplexFloatStorage",
            "ComplexDoubleStorage",
            "float32",
            "float64",
            "float16",
            "bfloat16",
            "uint8",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint16",
            "uint32",
            "uint64",
            "bool",
            "complex64",
            "complex128",
        ],
    ),
    ("torch.storage", &["UntypedStorage", "TypedStorage"]),
    ("numpy", &["dtype", "ndarray"]),
    ("numpy.core.multiarray", &["scalar", "_reconstruct"]),
    ("numpy._core.multiarray", &["scalar", "_reconstruct"]),
    ("_codecs", &["encode"]),
    (
        "builtins",
        &[
            "list", "dict", "tuple", "int", "float", "bool", "str", "bytes", "set",
        ],
    ),
    (
        "__builtin__",
        &[
            "list", "dict", "tuple", "int", "long", "float", "bool", "str", "unicode", "set",
        ],
    ),
];

fn is_allowed(module: &str, name: &str) -> bool {
    let listed = ALLOWED
        .iter()
        .any(|(m, names)| *m == module && names.contains(&name));
    listed || module == "tensordict" || module.starts_with("tensordict.")
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<NodeId>,
    marks: Vec<usize>,
    memo: HashMap<u32, NodeId>,
}

type Step<T = ()> = Result<T, PickleError>;

impl<'a> Machine<'a> {
    fn new(input: &'a [u8]) -> Self {
        Self {
            input,
            at: 0,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    fn run(&mut self) -> Step<NodeId> {
        loop {
            let opcode = self.byte()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
        }
    }

    fn malformed<T>(&self, detail: impl Into<String>) -> Step<T> {
        Err(PickleError::Malformed {
            at: self.at,
            detail: detail.into(),
        })
    }

    /// Executes one opcode; the groups are those of the pickle documentation.
    fn step(&mut self, opcode: u8) -> Step {
        match opcode {
            0x80 => self.skip(1),
            0x95 => self.skip(8),
            b'(' => self.mark(),
            b'0' => self.pop().map(drop),
            b'1' => self.pop_mark().map(drop),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }
            b'N' | 0x88 | 0x89 | b'J' | b'K' | b'M' | 0x8a | 0x8b | b'G' => self.number(opcode),
            b'X' | 0x8c | 0x8d | b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => self.string(opcode),
            b']' | b')' | b'}' | 0x8f | b'l' | b't' | b'd' | 0x85..=0x87 | 0x91 => {
                self.collection(opcode)
            }
            b'a' | b'e' | b's' | b'u' | 0x90 => self.extend(opcode),
            b'c' | 0x93 => self.global(opcode),
            b'R' | 0x81 | 0x92 | b'b' => self.object(opcode),
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo(opcode),
            b'Q' => {
                let id = self.pop()?;
                self.push(Node::Persistent(id))
            }
            _ => self.malformed(format!(
                "opcode 0x{opcode:02x} does not occur in data files"
            )),
        }
    }

    fn number(&mut self, opcode: u8) -> Step {
        let node = match opcode {
            b'N' => Node::None,
            0x88 => Node::Bool(true),
            0x89 => Node::Bool(false),
            b'J' => Node::Int(i64::from(i32::from_le_bytes(self.array()?))),
            b'K' => Node::Int(i64::from(self.byte()?)),
            b'M' => Node::Int(i64::from(u16::from_le_bytes(self.array()?))),
            b'G' => Node::Float(f64::from_be_bytes(self.array()?)),
            _ => {
                let length = if opcode == 0x8a {
                    usize::from(self.byte()?)
                } else {
                    self.length4()?
                };
                let range = self.range(length)?;
                match long(&self.input[range]) {
                    Some(value) => Node::Int(value),
                    None => return self.malformed("an integer of more than 64 bits"),
                }
            }
        };
        self.push(node)
    }

    fn string(&mut self, opcode: u8) -> Step {
        let length = match opcode {
            b'U' | b'C' | 0x8c => usize::from(self.byte()?),
            b'T' | b'B' | b'X' => self.length4()?,
            _ => match usize::try_from(u64::from_le_bytes(self.array()?)) {
                Ok(length) => length,
                Err(_) => return self.malformed("a string longer than memory"),
            },
        };
        let range = self.range(length)?;
        let is_text = matches!(opcode, b'X' | 0x8c | 0x8d);
        if is_text && std::str::from_utf8(&self.input[range.clone()]).is_err() {
            return self.malformed("a text that is not UTF-8");
        }
        // Protocol 2 writes ASCII text of Python 2 as byte strings; names are compared as text.
        let ascii = matches!(opcode, b'T' | b'U') && self.input[range.clone()].is_ascii();
        self.push(if is_text || ascii {
            Node::Text(range)
        } else {
            Node::Bytes(range)
        })
    }

    fn collection(&mut self, opcode: u8) -> Step {
        let node = match opcode {
            b']' | 0x8f => Node::List(Vec::new()),
            b')' => Node::Tuple(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            b'l' | 0x91 => Node::List(self.pop_mark()?),
            b't' => Node::Tuple(self.pop_mark()?),
            b'd' => {
                let items = self.pop_mark()?;
                Node::Dict(self.pairs(&items)?)
            }
            _ => {
                let count = usize::from(opcode - 0x84);
                let Some(start) = self
                    .stack
                    .len()
                    .checked_sub(count)
                    .filter(|&s| s >= self.floor())
                else {
                    return self.malformed("the stack is empty");
                };
                Node::Tuple(self.stack.split_off(start))
            }
        };
        self.push(node)
    }

    /// Adds to the list, set or dictionary below.
    fn extend(&mut self, opcode: u8) -> Step {
        let items = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_mark()?,
        };
        let pairs = if matches!(opcode, b's' | b'u') {
            self.pairs(&items)?
        } else {
            Vec::new()
        };
        let target = self.top()?;
        match &mut self.nodes[target as usize] {
            Node::List(list) if !matches!(opcode, b's' | b'u') => list.extend(items),
            Node::Dict(dict) if matches!(opcode, b's' | b'u') => dict.extend(pairs),
            Node::Call { items, .. } if matches!(opcode, b's' | b'u') => items.extend(pairs),
            // Subclasses of list take items too; no data file keeps its tensors in one.
            Node::Call { .. } => {}
            _ => return self.malformed("items are added to something that takes none"),
        }
        Ok(())
    }

    fn global(&mut self, opcode: u8) -> Step {
        let (module, name) = if opcode == b'c' {
            (self.line()?, self.line()?)
        } else {
            let name = self.pop_text()?;
            (self.pop_text()?, name)
        };
        if !is_allowed(&module, &name) {
            return Err(PickleError::Forbidden(format!("{module}.{name}")));
        }
        self.push(Node::Global(module, name))
    }

    fn object(&mut self, opcode: u8) -> Step {
        if opcode == b'b' {
            let argument = self.pop()?;
            let target = self.top()?;
            return match &mut self.nodes[target as usize] {
                Node::Call { state, .. } => {
                    *state = Some(argument);
                    Ok(())
                }
                _ => self.malformed("state is given to something that has none"),
            };
        }
        if opcode == 0x92 {
            self.pop()?;
        }
        let args = self.pop()?;
        let function = self.pop()?;
        match self.nodes[function as usize] {
            Node::Global(..) => self.push(Node::Call {
                function,
                args,
                state: None,
                items: Vec::new(),
            }),
            _ => self.malformed("something that is not a function is called"),
        }
    }

    fn memo(&mut self, opcode: u8) -> Step {
        let key = match opcode {
            b'q' | b'h' => u32::from(self.byte()?),
            0x94 => self.memo.len() as u32,
            _ => u32::from_le_bytes(self.array()?),
        };
        if matches!(opcode, b'h' | b'j') {
            let Some(&id) = self.memo.get(&key) else {
                return self.malformed(format!("memo {key} is not set"));
            };
            self.stack.push(id);
        } else {
            let top = self.top()?;
            self.memo.insert(key, top);
        }
        Ok(())
    }

    fn push(&mut self, node: Node) -> Step {
        let Ok(id) = NodeId::try_from(self.nodes.len()) else {
            return self.malformed("too many values");
        };
        self.nodes.push(node);
        self.stack.push(id);
        Ok(())
    }

    fn mark(&mut self) -> Step {
        if self.marks.len() >= MAX_MARKS {
            return self.malformed("the nesting is too deep");
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Stack height below which the innermost mark does not let anything be taken.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<NodeId> {
        let above_mark = self.stack.len() > self.floor();
        match self.stack.pop().filter(|_| above_mark) {
            Some(id) => Ok(id),
            None => self.malformed("the stack is empty"),
        }
    }

    fn top(&self) -> Step<NodeId> {
        match self.stack.last() {
            Some(&id) => Ok(id),
            None => self.malformed("the stack is empty"),
        }
    }

    fn pop_mark(&mut self) -> Step<Vec<NodeId>> {
        match self.marks.pop() {
            Some(start) => Ok(self.stack.split_off(start)),
            None => self.malformed("there is no mark"),
        }
    }

    fn pop_text(&mut self) -> Step<String> {
        let id = self.pop()?;
        match &self.nodes[id as usize] {
            Node::Text(range) => {
                Ok(String::from_utf8_lossy(&self.input[range.clone()]).into_owned())
            }
            _ => self.malformed("a name that is not a text"),
        }
    }

    fn pairs(&self, items: &[NodeId]) -> Step<Vec<(NodeId, NodeId)>> {
        if !items.len().is_multiple_of(2) {
            return self.malformed("a key without a value");
        }
        Ok(items
            .chunks_exact(2)
            .map(|pair| (pair[0], pair[1]))
            .collect())
    }

    fn range(&mut self, length: usize) -> Step<Range<usize>> {
        let end = self
            .at
            .checked_add(length)
            .filter(|&end| end <= self.input.len());
        let Some(end) = end else {
            return self.malformed("the pickle ends too early");
        };
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    fn skip(&mut self, length: usize) -> Step {
        self.range(length).map(drop)
    }

    fn byte(&mut self) -> Step<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let range = self.range(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.input[range]);
        Ok(bytes)
    }

    fn length4(&mut self) -> Step<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    /// A line without its end.
    fn line(&mut self) -> Step<String> {
        let length = self.input[self.at..].iter().position(|&b| b == b'\n');
        let Some(length) = length else {
            return self.malformed("the pickle ends too early");
        };
        let range = self.range(length)?;
        self.skip(1)?;
        Ok(String::from_utf8_lossy(&self.input[range]).into_owned())
    }
}

/// A little-endian two's complement integer of any length that fits 64 bits.
fn long(bytes: &[u8]) -> Option<i64> {
    let fill = if bytes.last().is_some_and(|&b| b >= 0x80) {
        0xff
    } else {
        0
    };
    let mut all = [fill; 8];
    if let Some((low, high)) = bytes.split_at_checked(8) {
        if high.iter().any(|&b| b != fill) || (low[7] >= 0x80) != (fill == 0xff) {
            return None;
        }
        all.copy_from_slice(low);
    } else {
        all[..bytes.len()].copy_from_slice(bytes);
    }
    Some(i64::from_le_bytes(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Pickle<'_>, PickleError> {
        Pickle::parse(bytes)
    }

    fn ints(pickle: &Pickle<'_>) -> Vec<i64> {
        match pickle.root() {
            Node::List(items) => items.iter().filter_map(|&id| pickle.int(id)).collect(),
            other => panic!("not a list: {other:?}"),
        }
    }

    /// `pickle.dumps([1, 300, 70000, -2, 2**40], protocol)` for protocols 2 and 4.
    #[test]
    fn integers_of_every_width_are_read() {
        let two = b"\x80\x02]q\x00(K\x01M,\x01Jp\x11\x01\x00J\xfe\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01e.";
        let four =
            b"\x80\x04\x95\x1b\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01M,\x01Jp\x11\x01\x00J\xfe\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01e.";
        for bytes in [two.as_slice(), four.as_slice()] {
            assert_eq!(
                ints(&parse(bytes).expect("a pickle")),
                [1, 300, 70000, -2, 1 << 40]
            );
        }
    }

    #[test]
    fn a_function_outside_the_list_is_named_and_never_called() {
        let global = b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00true\x85R.";
        assert_eq!(
            parse(global).map(|_| ()),
            Err(PickleError::Forbidden("posix.system".into()))
        );
        let stack_global = b"\x80\x04\x8c\x02os\x8c\x06system\x93.";
        assert_eq!(
            parse(stack_global).map(|_| ()),
            Err(PickleError::Forbidden("os.system".into()))
        );
        let eval = b"\x80\x02cbuiltins\neval\n.";
        assert_eq!(
            parse(eval).map(|_| ()),
            Err(PickleError::Forbidden("builtins.eval".into()))
        );
    }

    #[test]
    fn every_cut_of_a_pickle_is_an_error_and_not_a_panic() {
        let whole = b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00b]q\x01(G?\xf0\x00\x00\x00\x00\x00\x00Neu.";
        parse(whole).expect("the whole pickle");
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
    }

    /// Each list holds the one before twice: 2^40 leaves if sharing were lost.
    #[test]
    fn shared_values_are_shared() {
        let mut bytes = b"\x80\x02]q\x00".to_vec();
        for k in 0_u8..40 {
            bytes.extend_from_slice(&[b']', b'q', k + 1, b'(', b'h', k, b'h', k, b'e']);
        }
        bytes.push(b'.');
        let pickle = parse(&bytes).expect("a pickle");
        assert!(pickle.nodes.len() <= bytes.len());
    }

    #[test]
    fn hostile_lengths_marks_and_opcodes_are_refused() {
        let cases: [&[u8]; 8] = [
            b"\x80\x02X\xff\xff\xff\xffabc.",
            b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc.",
            b"\x80\x02h\x05.",
            b"\x80\x02\x86.",
            b"\x80\x02(0.",
            b"\x80\x02e.",
            b"\x80\x02K\x01K\x02a.",
            b"\x80\x02\x82\x01.",
        ];
        for bytes in cases {
            assert!(
                matches!(parse(bytes), Err(PickleError::Malformed { .. })),
                "{bytes:?}"
            );
        }
        let deep = [b"\x80\x02".as_slice(), &[b'('; 5000]].concat();
        assert!(matches!(parse(&deep), Err(PickleError::Malformed { .. })));
    }

    #[test]
    fn long_integers_keep_their_sign_and_refuse_to_overflow() {
        assert_eq!(long(&[]), Some(0));
        assert_eq!(long(&[0xff]), Some(-1));
        assert_eq!(long(&[0xff, 0]), Some(255));
        assert_eq!(long(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0]), None);
        assert_eq!(long(&[0xff; 9]), Some(-1));
        assert_eq!(long(&[0, 0, 0, 0, 0, 0, 0, 0x80]), Some(i64::MIN));
    }
}
