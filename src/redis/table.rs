//! Which kind of command it is, and whether twice is as good as once.

use std::time::Duration;

use ::redis::Cmd;

/// What a command does: each kind has a time limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CommandKind {
    /// It changes nothing.
    Read,
    /// It changes something; so does, to be safe, whatever is not known.
    Write,
    /// It walks through many keys or elements.
    Scan,
    /// It runs code on the server.
    Script,
    /// It waits on the server, on a connection of its own.
    Blocking,
}

impl CommandKind {
    pub(super) const ALL: [Self; 5] = [
        Self::Read,
        Self::Write,
        Self::Scan,
        Self::Script,
        Self::Blocking,
    ];
}

/// What is known of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) kind: CommandKind,
    /// Done twice, it leaves what it leaves when it is done once.
    pub(super) repeatable: bool,
    /// It changes how a connection behaves: not for one that is shared.
    pub(super) stateful: bool,
}

const fn plain(kind: CommandKind, repeatable: bool) -> Profile {
    Profile {
        kind,
        repeatable,
        stateful: false,
    }
}

const READ: Profile = plain(CommandKind::Read, true);
const SCAN: Profile = plain(CommandKind::Scan, true);
const WRITE: Profile = plain(CommandKind::Write, false);
const WRITE_AGAIN: Profile = plain(CommandKind::Write, true);
const SCRIPT: Profile = plain(CommandKind::Script, false);
const BLOCKING: Profile = plain(CommandKind::Blocking, false);
const STATEFUL: Profile = Profile {
    stateful: true,
    ..WRITE
};

/// Looks a command up.
pub(super) fn profile(command: &Cmd) -> Profile {
    let mut words = words(command);
    let Some(name) = words.next() else {
        return WRITE;
    };
    let mut buffer = [0; 24];
    match upper(name, &mut buffer) {
        // What is sent most needs no look at its arguments.
        Some("GET" | "MGET" | "EXISTS") => READ,
        Some(name) => of(name, &words.collect::<Vec<_>>()),
        None => WRITE,
    }
}

/// The name of a command in capitals.
pub(super) fn name(command: &Cmd) -> String {
    let name = words(command).next().unwrap_or_default();
    String::from_utf8_lossy(name).to_ascii_uppercase()
}

/// The words of a command, cursors left out.
fn words(command: &Cmd) -> impl Iterator<Item = &[u8]> {
    command.args_iter().filter_map(|arg| match arg {
        ::redis::Arg::Simple(word) => Some(word),
        _ => None,
    })
}

fn upper<'b>(word: &[u8], buffer: &'b mut [u8; 24]) -> Option<&'b str> {
    let room = buffer.get_mut(..word.len())?;
    room.copy_from_slice(word);
    room.make_ascii_uppercase();
    std::str::from_utf8(room).ok()
}

fn of(name: &str, rest: &[&[u8]]) -> Profile {
    match name {
        "TTL" | "PTTL" | "EXPIRETIME" | "PEXPIRETIME" | "TYPE" | "STRLEN" | "GETRANGE"
        | "SUBSTR" | "GETBIT" | "BITCOUNT" | "BITPOS" | "HGET" | "HMGET" | "HEXISTS" | "HLEN"
        | "HSTRLEN" | "LLEN" | "LINDEX" | "LPOS" | "SCARD" | "SISMEMBER" | "SMISMEMBER"
        | "ZCARD" | "ZCOUNT" | "ZLEXCOUNT" | "ZRANK" | "ZREVRANK" | "ZSCORE" | "ZMSCORE"
        | "XLEN" | "PFCOUNT" | "PING" | "ECHO" | "TIME" | "DBSIZE" | "INFO" | "LASTSAVE"
        | "ROLE" | "RANDOMKEY" | "OBJECT" | "DUMP" | "LCS" | "SRANDMEMBER" | "HRANDFIELD"
        | "ZRANDMEMBER" | "GEOPOS" | "GEODIST" | "GEOHASH" | "XINFO" | "XPENDING" | "COMMAND" => {
            READ
        }
        "XREAD" if has(rest, "BLOCK") => plain(CommandKind::Blocking, true),
        "SCAN" | "XREAD" | "HSCAN" | "SSCAN" | "ZSCAN" | "KEYS" | "HGETALL" | "HKEYS" | "HVALS"
        | "SMEMBERS" | "SDIFF" | "SINTER" | "SUNION" | "SINTERCARD" | "LRANGE" | "ZRANGE"
        | "ZREVRANGE" | "ZRANGEBYSCORE" | "ZREVRANGEBYSCORE" | "ZRANGEBYLEX" | "ZDIFF"
        | "ZREVRANGEBYLEX" | "ZINTER" | "ZUNION" | "ZINTERCARD" | "XRANGE" | "XREVRANGE"
        | "GEOSEARCH" | "SORT_RO" => SCAN,
        "SET" => set(rest),
        "EXPIRE" | "PEXPIRE" | "EXPIREAT" | "PEXPIREAT" => again_if(rest.len() == 2),
        "SETEX" | "PSETEX" | "MSET" | "DEL" | "UNLINK" | "PERSIST" | "TOUCH" | "HSET" | "HMSET"
        | "HDEL" | "SADD" | "SREM" | "ZREM" | "LSET" | "SETRANGE" | "PFADD" | "XACK" | "XDEL" => {
            WRITE_AGAIN
        }
        "EVAL" | "EVALSHA" | "FCALL" => SCRIPT,
        "EVAL_RO" | "EVALSHA_RO" | "FCALL_RO" => plain(CommandKind::Script, true),
        "BLPOP" | "BRPOP" | "BLMOVE" | "BRPOPLPUSH" | "BLMPOP" | "BZPOPMIN" | "BZPOPMAX"
        | "BZMPOP" | "WAIT" | "WAITAOF" => BLOCKING,
        "XREADGROUP" if has(rest, "BLOCK") => BLOCKING,
        "SCRIPT" if starts(rest, "EXISTS") => READ,
        "SCRIPT" if starts(rest, "LOAD") => WRITE_AGAIN,
        "SCRIPT" if starts(rest, "DEBUG") => STATEFUL,
        "CLIENT" if !looks_at_clients(rest) => STATEFUL,
        "MULTI" | "EXEC" | "DISCARD" | "WATCH" | "UNWATCH" | "SELECT" | "AUTH" | "HELLO"
        | "RESET" | "QUIT" | "MONITOR" | "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE"
        | "UNSUBSCRIBE" | "PUNSUBSCRIBE" | "SUNSUBSCRIBE" | "READONLY" | "READWRITE" | "ASKING"
        | "SYNC" | "PSYNC" | "REPLCONF" => STATEFUL,
        _ => WRITE,
    }
}

const fn again_if(repeatable: bool) -> Profile {
    plain(CommandKind::Write, repeatable)
}

/// A plain value, with an expiry at most: not `NX`, `XX`, `GET` and whatever else looks at what
/// was there before.
fn set(rest: &[&[u8]]) -> Profile {
    let Some(options) = rest.get(2..) else {
        return WRITE;
    };
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let known = ["EX", "PX", "EXAT", "PXAT"];
        if known.iter().any(|name| same(option, name)) {
            options.next();
        } else if !same(option, "KEEPTTL") {
            return WRITE;
        }
    }
    WRITE_AGAIN
}

fn same(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

fn has(rest: &[&[u8]], name: &str) -> bool {
    rest.iter().any(|word| same(word, name))
}

fn starts(rest: &[&[u8]], name: &str) -> bool {
    rest.first().is_some_and(|word| same(word, name))
}

/// Whether this word after `CLIENT` leaves the connection as it is, that it is sent on.
fn looks_at_clients(rest: &[&[u8]]) -> bool {
    let harmless = [
        "ID", "LIST", "INFO", "GETNAME", "KILL", "PAUSE", "UNPAUSE", "UNBLOCK",
    ];
    harmless.iter().any(|name| starts(rest, name))
}

/// How long the command itself asks the server to wait; `None` where it says for ever, or
/// nothing that can be understood.
pub(super) fn asked_wait(command: &Cmd) -> Option<Duration> {
    let words: Vec<&[u8]> = words(command).collect();
    let (name, rest) = words.split_first()?;
    let mut buffer = [0; 24];
    let (word, unit) = match upper(name, &mut buffer)? {
        "BLMPOP" | "BZMPOP" => (rest.first()?, 1.0),
        "WAIT" | "WAITAOF" => (rest.last()?, 0.001),
        "XREAD" | "XREADGROUP" => {
            let at = rest.iter().position(|word| same(word, "BLOCK"))?;
            (rest.get(at + 1)?, 0.001)
        }
        _ => (rest.last()?, 1.0),
    };
    let number: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    Duration::try_from_secs_f64(number * unit)
        .ok()
        .filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Cmd {
        let mut words = line.split(' ');
        let mut command = ::redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        command
    }

    fn is_repeatable(line: &str) -> bool {
        profile(&command(line)).repeatable
    }

    #[test]
    fn what_leaves_the_same_when_done_twice_is_repeatable() {
        for line in [
            "GET k",
            "mget a b",
            "EXISTS k",
            "TTL k",
            "SET k v",
            "set k v ex 5",
            "SET k v PXAT 99 KEEPTTL",
            "EXPIRE k 5",
            "DEL k",
            "SCAN 0",
        ] {
            assert!(is_repeatable(line), "{line}");
        }
    }

    #[test]
    fn what_adds_up_or_looks_at_what_was_there_is_not() {
        for line in [
            "INCR n",
            "incrby n 5",
            "LPUSH l v",
            "APPEND k v",
            "EVAL s 0",
            "EVALSHA s 0",
            "SET k v NX",
            "SET k v EX 5 GET",
            "SET k",
            "EXPIRE k 5 NX",
            "GETDEL k",
            "GETSET k v",
            "SPOP s",
            "BLPOP l 1",
            "SETNX k v",
            "ZADD z INCR 1 m",
            "RENAME a b",
            "A.COMMAND.THAT.NOBODY.HAS.EVER.HEARD.OF",
            "NEW",
        ] {
            assert!(!is_repeatable(line), "{line}");
        }
        assert!(!profile(&Cmd::new()).repeatable);
        let mut not_text = Cmd::new();
        not_text.arg(&[0xff_u8, 0xfe][..]);
        assert_eq!(profile(&not_text), WRITE);
    }

    #[test]
    fn what_changes_the_connection_is_known() {
        for line in [
            "SELECT 1",
            "multi",
            "WATCH k",
            "CLIENT REPLY OFF",
            "SUBSCRIBE c",
            "SCRIPT DEBUG YES",
        ] {
            assert!(profile(&command(line)).stateful, "{line}");
        }
        for line in ["GET k", "CLIENT ID", "CLIENT KILL ID 5", "BLPOP l 1"] {
            assert!(!profile(&command(line)).stateful, "{line}");
        }
    }

    #[test]
    fn a_blocking_command_says_how_long_it_waits() {
        let wait = |line: &str| asked_wait(&command(line));
        assert_eq!(wait("BLPOP a b 1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(wait("BLMPOP 2 1 k LEFT"), Some(Duration::from_secs(2)));
        let read = wait("XREAD COUNT 1 BLOCK 250 STREAMS s $");
        assert_eq!(read, Some(Duration::from_millis(250)));
        assert_eq!(wait("WAIT 1 100"), Some(Duration::from_millis(100)));
        for for_ever in [
            "BLPOP a 0",
            "BLPOP a -1",
            "BLPOP a nan",
            "BLPOP a 1e300",
            "BLPOP",
        ] {
            assert_eq!(wait(for_ever), None, "{for_ever}");
        }
    }

    #[test]
    fn each_kind_is_found() {
        let kind = |line: &str| profile(&command(line)).kind;
        assert_eq!(kind("GET k"), CommandKind::Read);
        assert_eq!(kind("SET k v"), CommandKind::Write);
        assert_eq!(kind("HGETALL h"), CommandKind::Scan);
        assert_eq!(kind("EVALSHA s 0"), CommandKind::Script);
        assert_eq!(kind("XREAD BLOCK 5 STREAMS s 0"), CommandKind::Blocking);
        assert_eq!(kind("XREAD STREAMS s 0"), CommandKind::Scan);
    }
}
