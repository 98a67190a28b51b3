//! What is sent in one go: a command, several, or a script.

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, RedisResult, Script, ToRedisArgs, Value};

use super::table::{CommandKind, Profile, profile};

#[derive(Debug)]
pub(super) struct Job {
    what: What,
    profile: Profile,
}

/// What an error of the server's is the answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// It was refused as a whole.
    Command,
    /// It may come from the middle of it.
    Script,
    /// Any of several commands; the others may have been done.
    Batch,
}

enum What {
    Command(Cmd),
    Batch(::redis::Pipeline),
    Script {
        script: Script,
        keys: Vec<Vec<u8>>,
        args: Vec<Vec<u8>>,
    },
}

impl Job {
    pub(super) fn command(command: Cmd) -> Self {
        let profile = profile(&command);
        Self {
            what: What::Command(command),
            profile,
        }
    }

    /// It may be repeated if each of its commands may.
    pub(super) fn batch(commands: ::redis::Pipeline) -> Self {
        let all: Vec<Profile> = commands.cmd_iter().map(profile).collect();
        let is = |kind| all.iter().any(|each| each.kind == kind);
        let mut by_weight = [
            CommandKind::Blocking,
            CommandKind::Script,
            CommandKind::Scan,
        ]
        .into_iter()
        .chain([CommandKind::Write]);
        let profile = Profile {
            kind: by_weight
                .find(|kind| is(*kind))
                .unwrap_or(CommandKind::Read),
            repeatable: all.iter().all(|each| each.repeatable),
            stateful: all.iter().any(|each| each.stateful),
        };
        Self {
            what: What::Batch(commands),
            profile,
        }
    }

    pub(super) fn script<K, A>(script: &Script, keys: &[K], args: &[A]) -> Self
    where
        K: ToRedisArgs,
        A: ToRedisArgs,
    {
        Self {
            what: What::Script {
                script: script.clone(),
                keys: keys.iter().flat_map(ToRedisArgs::to_redis_args).collect(),
                args: args.iter().flat_map(ToRedisArgs::to_redis_args).collect(),
            },
            profile: Profile {
                kind: CommandKind::Script,
                repeatable: false,
                stateful: false,
            },
        }
    }

    /// The command's name in capitals; empty for anything else.
    pub(super) fn name(&self) -> String {
        match &self.what {
            What::Command(command) => super::table::name(command),
            What::Batch(_) | What::Script { .. } => String::new(),
        }
    }

    fn name_if_blocking(&self) -> String {
        if self.needs_own_connection() {
            self.name()
        } else {
            String::new()
        }
    }

    pub(super) fn profile(&self) -> Profile {
        self.profile
    }

    /// How long the command itself asks the server to wait.
    pub(super) fn asked_wait(&self) -> Option<std::time::Duration> {
        match &self.what {
            What::Command(command) if self.needs_own_connection() => {
                super::table::asked_wait(command)
            }
            _ => None,
        }
    }

    pub(super) fn needs_own_connection(&self) -> bool {
        self.profile.kind == CommandKind::Blocking
    }

    /// How much of it the server may have done before it answered with an error.
    pub(super) fn extent(&self) -> Extent {
        match self.what {
            What::Batch(_) => Extent::Batch,
            _ if self.profile.kind == CommandKind::Script => Extent::Script,
            _ => Extent::Command,
        }
    }

    /// Why it cannot be sent on a connection that is not the caller's.
    pub(super) fn misuse(&self) -> Option<&'static str> {
        let is_empty = match &self.what {
            What::Command(command) => command.args_iter().len() == 0,
            What::Batch(_) | What::Script { .. } => false,
        };
        if is_empty {
            Some("an empty command")
        } else if matches!(&*self.name_if_blocking(), "WAIT" | "WAITAOF") {
            Some("this waits for what its own connection has written: put it into a batch")
        } else if self.profile.stateful {
            Some("this command changes the connection, which others use too")
        } else {
            None
        }
    }

    pub(super) async fn send(&self, connection: &mut MultiplexedConnection) -> RedisResult<Value> {
        match &self.what {
            What::Command(command) => command.query_async(connection).await,
            // The library takes nothing for an empty command.
            What::Batch(commands) if commands.is_empty() => Ok(Value::Array(Vec::new())),
            What::Batch(commands) => commands.query_async(connection).await,
            What::Script { script, keys, args } => {
                let mut call = script.prepare_invoke();
                for key in keys {
                    call.key(key);
                }
                for arg in args {
                    call.arg(arg);
                }
                call.invoke_async(connection).await
            }
        }
    }
}

impl std::fmt::Debug for What {
    /// Without the words: they may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Command(_) => "Command",
            Self::Batch(_) => "Batch",
            Self::Script { .. } => "Script",
        })
    }
}
