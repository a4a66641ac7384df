//! Which slot a name lies in, and which server keeps which slot: the cluster's arithmetic, without I/O.

use redis::Value;

use super::dial::Address;

pub(super) const SLOTS: u16 = 16_384;

/// A run of slots, both ends included, and the server that keeps it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) keeper: Address,
}

/// CRC-16/XMODEM of the name's hash tag, or of the whole name where it has none.
pub(super) fn slot_of(name: &str) -> u16 {
    crc16(tag_of(name).as_bytes()) % SLOTS
}

/// What stands between the first `{` and the next `}`, if that is anything.
fn tag_of(name: &str) -> &str {
    let tag = name
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag);
    tag.filter(|tag| !tag.is_empty()).unwrap_or(name)
}

/// Bit by bit: a tag is some fifty bytes, and a command costs a thousand times as much.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 != 0 {
                (crc << 1) ^ 0x1021
            } else {
                crc << 1
            }
        })
    })
}

/// Reads the answer to `CLUSTER SLOTS`; `asked` stands in for a server that does not know its own name. Runs that make
/// no sense are left out; `None` if nothing is left.
pub(super) fn read(answer: &Value, asked: &Address) -> Option<Vec<Range>> {
    let Value::Array(runs) = answer else {
        return None;
    };
    let ranges: Vec<Range> = runs.iter().filter_map(|run| read_run(run, asked)).collect();
    (!ranges.is_empty()).then_some(ranges)
}

fn read_run(run: &Value, asked: &Address) -> Option<Range> {
    let Value::Array(parts) = run else { return None };
    // First slot, last slot, the master, then replicas.
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = parts.as_slice() else {
        return None;
    };
    let [host, Value::Int(port), ..] = master.as_slice() else {
        return None;
    };
    let host = match host {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
        Value::SimpleString(text) => text,
        Value::Nil => "",
        _ => return None,
    };
    // `?`: the node has no name to be reached by yet.
    let host = match host {
        "" => &asked.host,
        "?" => return None,
        host => host,
    };
    let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
    (first <= last && last < SLOTS).then_some(Range {
        first,
        last,
        keeper: Address {
            host: host.to_owned(),
            port: u16::try_from(*port).ok()?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of("foo"), 12182);
        assert_eq!(slot_of("{user1000}.following"), slot_of("{user1000}.followers"));
        assert_eq!(slot_of("foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot_of("foo{{bar}}zap"), crc16(b"{bar") % SLOTS);
        assert_eq!(slot_of("foo{bar}{zap}"), slot_of("bar"));
        assert_eq!(slot_of("x:{default:u1}:a"), slot_of("x:{default:u1}:b:lease"));
    }

    #[test]
    fn a_map_is_read_and_what_makes_no_sense_is_left_out() {
        let asked = Address::parse("seed:1").unwrap();
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), Value::Nil]);
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let run = |first, last, node| Value::Array(vec![Value::Int(first), Value::Int(last), node]);
        let answer = Value::Array(vec![
            run(0, 5460, node(text("10.0.0.1"), 7000)),
            run(5461, 9000, node(Value::Nil, 7001)),
            run(9001, 9001, node(text(""), 7002)),
            run(9002, 9003, node(text("?"), 7002)),
            run(9, 3, node(text("h"), 1)),
            run(0, 16384, node(text("h"), 1)),
            run(0, 1, node(text("h"), 70_000)),
            Value::Nil,
        ]);
        let ranges = read(&answer, &asked).unwrap();
        let seen: Vec<_> = ranges
            .iter()
            .map(|r| (r.first, r.last, r.keeper.host.as_str(), r.keeper.port))
            .collect();
        assert_eq!(
            seen,
            [
                (0, 5460, "10.0.0.1", 7000),
                (5461, 9000, "seed", 7001),
                (9001, 9001, "seed", 7002)
            ]
        );
        assert!(read(&Value::Array(Vec::new()), &asked).is_none());
        assert!(read(&Value::Okay, &asked).is_none());
    }
}
