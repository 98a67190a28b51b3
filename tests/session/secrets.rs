//! The environment of commands and sessions on this machine shows nowhere.

use std::error::Error as _;

use mainstay::session::{Command, SessionError, SessionId, SessionProvider};

use crate::embedded::{MS, Place, session};

const SECRET: &str = "hunter2";

#[track_caller]
fn shows_none(text: &str) {
    assert!(!text.contains(SECRET), "{text}");
}

fn all_of(error: &SessionError) {
    shows_none(&format!("{error} {error:?} {error:#?}"));
    let mut source = error.source();
    while let Some(error) = source {
        shows_none(&format!("{error} {error:?}"));
        source = error.source();
    }
}

fn with_secret(line: &str) -> Command {
    Command::new(line).env("TOKEN", SECRET)
}

#[tokio::test]
async fn the_environment_shows_in_no_debug_form_and_no_error() {
    let place = Place::new();
    let builder = place.builder().env("OURS", SECRET);
    shows_none(&format!("{builder:?} {builder:#?}"));
    let provider = builder.build().unwrap();
    shows_none(&format!("{provider:?} {provider:#?}"));
    let id = session(&provider).await;

    let command = with_secret("test $TOKEN = hunter2 -a $OURS = hunter2");
    // The line is the caller's own words, and shows.
    assert!(format!("{command:?}").contains("$TOKEN"));
    let result = provider.run(&id, &command).await.unwrap();
    assert!(result.success, "it is there: {result:?}");

    let mut failures = 0;
    let mut failed = |error: Option<SessionError>| {
        all_of(&error.unwrap());
        failures += 1;
    };
    shows_none(&format!("{:?}", with_secret("true")));
    // No such directory; no such session; a variable that can be none.
    let elsewhere = with_secret("true").directory("none/such");
    failed(provider.run(&id, &elsewhere).await.err());
    failed(
        provider
            .run(&SessionId::new("none"), &with_secret("true"))
            .await
            .err(),
    );
    for name in ["A=B", "", "A\0"] {
        let odd = Command::new("true").env(name, SECRET);
        failed(provider.run(&id, &odd).await.err());
    }
    let slow = with_secret("sleep 60").time_limit(20 * MS);
    let ended = provider.run(&id, &slow).await;
    shows_none(&format!("{ended:?}"));
    provider.delete(&id).await.unwrap();
    failed(provider.run(&id, &with_secret("true")).await.err());
    assert_eq!(failures, 6);
}
