//! The embedded provider's files: no path leaves the session's directory.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mainstay::session::{
    Command, Effect, EmbeddedProvider, EntryKind, FileRange, SessionError, SessionErrorKind,
    SessionId, SessionProvider, WriteMode,
};

use super::embedded::{Place, is, output, session, until};

async fn read(
    provider: &EmbeddedProvider,
    id: &SessionId,
    path: &str,
) -> Result<Vec<u8>, SessionError> {
    provider.read_file(id, path, FileRange::whole()).await
}

async fn write(
    provider: &EmbeddedProvider,
    id: &SessionId,
    path: &str,
    content: &[u8],
) -> Result<u64, SessionError> {
    let written = provider
        .write_file(id, path, content, WriteMode::Overwrite)
        .await;
    written.map(|written| written.bytes)
}

/// What every file call says of a path.
async fn refusals(provider: &EmbeddedProvider, id: &SessionId, path: &str) -> Vec<SessionError> {
    let below = format!("{path}/x");
    vec![
        read(provider, id, path).await.unwrap_err(),
        write(provider, id, path, b"evil").await.unwrap_err(),
        provider
            .write_file(id, path, b"evil", WriteMode::Append)
            .await
            .unwrap_err(),
        write(provider, id, &below, b"evil").await.unwrap_err(),
        provider.list_directory(id, path).await.unwrap_err(),
        provider.file_info(id, path).await.unwrap_err(),
        provider.create_directory(id, &below).await.unwrap_err(),
        provider.search_files(id, path, "*").await.unwrap_err(),
        provider.remove(id, &below).await.unwrap_err(),
        provider.move_file(id, &below, "here").await.unwrap_err(),
        provider.move_file(id, "mine", &below).await.unwrap_err(),
        provider
            .run(id, &Command::new("true").directory(path))
            .await
            .unwrap_err(),
    ]
}

#[tokio::test]
async fn no_path_leads_out() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    let outside = place.root.path().join("secret");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("x"), "secret").unwrap();
    write(&provider, &id, "mine", b"mine").await.unwrap();
    let (out, root) = (outside.display(), place.root.path().display());
    let links = format!(
        "ln -s {out} absolute; ln -s ../../../secret relative; ln -s /proc/self/root magic;
         ln -s absolute second; mkdir dir; ln -s ../.. dir/up; ln -s / slash; ln -s loop loop"
    );
    output(&provider, &id, &links).await;
    let paths = [
        "..",
        "../../../secret",
        "/../../../secret",
        "tmp/../../../../secret",
        "absolute",
        "relative",
        "second",
        "dir/up",
        "dir/up/../../secret",
        "magic",
        "slash",
        &format!("slash{root}/secret"),
        &format!("magic{root}/secret"),
        "loop",
    ];
    for path in paths {
        for error in refusals(&provider, &id, path).await {
            is(SessionErrorKind::Invalid, &error);
            assert_eq!(error.effect(), Effect::None, "{path}: {error}");
        }
    }
    // Absolute paths begin in the session, so those are only missing.
    for path in [
        format!("{out}/x"),
        "/proc/self/root/etc/passwd".into(),
        "/etc/passwd".into(),
    ] {
        is(
            SessionErrorKind::NotFound,
            &read(&provider, &id, &path).await.unwrap_err(),
        );
    }
    assert_eq!(std::fs::read(outside.join("x")).unwrap(), b"secret");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(read(&provider, &id, "mine").await.unwrap(), b"mine");
    // A link that leads out can be removed and moved, which does nothing to where it leads.
    provider.move_file(&id, "absolute", "moved").await.unwrap();
    provider.remove(&id, "moved").await.unwrap();
    provider.delete(&id).await.unwrap();
    assert_eq!(std::fs::read(outside.join("x")).unwrap(), b"secret");
}

/// A name leads to a directory inside and to one outside, by turns, all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_swapped_in_the_middle_leads_nowhere() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    let outside = place.root.path().join("secret");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("x"), "secret").unwrap();
    write(&provider, &id, "real/x", b"mine").await.unwrap();
    let home = provider.directory(&id).unwrap();
    let done = AtomicBool::new(false);
    let (mut reached, mut missed) = (0, 0);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for target in [Path::new("real"), &outside] {
                    symlink(target, home.join("next")).unwrap();
                    std::fs::rename(home.join("next"), home.join("place")).unwrap();
                }
            }
        });
        let using = async {
            until("the first swap", || home.join("place").exists()).await;
            let since = Instant::now();
            while since.elapsed() < Duration::from_millis(1500) {
                for _ in 0..10 {
                    match read(&provider, &id, "place/x").await {
                        Ok(content) => {
                            assert_ne!(content, b"secret");
                            reached += 1;
                        }
                        Err(_) => missed += 1,
                    }
                }
                for mode in [WriteMode::Overwrite, WriteMode::Append] {
                    let _ = provider.write_file(&id, "place/x", b"evil", mode).await;
                    let _ = provider.write_file(&id, "place/y", b"evil", mode).await;
                }
                let _ = provider.remove(&id, "place/x").await;
                let _ = provider.create_directory(&id, "place/z").await;
                let _ = provider.move_file(&id, "real/y", "place/w").await;
                let _ = write(&provider, &id, "real/x", b"mine").await;
            }
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(using));
        done.store(true, Ordering::Relaxed);
    });
    assert!(reached > 5 && missed > 5, "{reached} {missed}");
    assert_eq!(std::fs::read(outside.join("x")).unwrap(), b"secret");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[tokio::test]
async fn names_that_no_system_has_are_refused() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    for path in ["", "a\0b", &"x".repeat(300), &"x/".repeat(5000)] {
        let error = read(&provider, &id, path).await.unwrap_err();
        is(SessionErrorKind::Invalid, &error);
        let error = write(&provider, &id, path, b"").await.unwrap_err();
        is(SessionErrorKind::Invalid, &error);
    }
    for path in ["/", ".", "tmp/.."] {
        is(
            SessionErrorKind::Invalid,
            &write(&provider, &id, path, b"").await.unwrap_err(),
        );
        is(
            SessionErrorKind::Invalid,
            &provider.remove(&id, path).await.unwrap_err(),
        );
        is(
            SessionErrorKind::Invalid,
            &provider.move_file(&id, path, "a").await.unwrap_err(),
        );
    }
    assert_eq!(provider.list_directory(&id, "/").await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_no_file_is_neither_opened_nor_waited_for() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    output(&provider, &id, "mkfifo pipe; mkdir dir; ln -s pipe link").await;
    let home = provider.directory(&id).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(home.join("socket")).unwrap();
    let mut paths = vec!["pipe", "link", "dir", "socket"];
    // Who is not root cannot make one.
    if output(
        &provider,
        &id,
        "mknod zero c 1 5 2>/dev/null && echo made || true",
    )
    .await
        == "made\n"
    {
        paths.push("zero");
    }
    let calls = async {
        for path in paths {
            for error in [
                read(&provider, &id, path).await.unwrap_err(),
                write(&provider, &id, path, b"a").await.unwrap_err(),
                provider
                    .write_file(&id, path, b"a", WriteMode::Append)
                    .await
                    .unwrap_err(),
            ] {
                is(SessionErrorKind::Invalid, &error);
                assert!(error.message().contains("not a file"), "{error}");
            }
        }
        let info = provider.file_info(&id, "pipe").await.unwrap();
        assert!(!info.is_regular);
    };
    tokio::time::timeout(Duration::from_secs(10), calls)
        .await
        .unwrap();
}

#[tokio::test]
async fn only_so_much_goes_through_one_call() {
    let place = Place::new();
    let provider = place.builder().file_limit(1000).build().unwrap();
    let id = session(&provider).await;
    output(
        &provider,
        &id,
        "head -c 1000 /dev/zero > fits; truncate -s 1T huge; echo end >> huge",
    )
    .await;
    assert_eq!(read(&provider, &id, "fits").await.unwrap().len(), 1000);
    let error = read(&provider, &id, "huge").await.unwrap_err();
    is(SessionErrorKind::Invalid, &error);
    let part = |offset, length| provider.read_file(&id, "huge", FileRange::new(offset, length));
    assert_eq!(part(1 << 40, 1000).await.unwrap(), b"end\n");
    assert_eq!(part((1 << 40) + 1, 2).await.unwrap(), b"nd");
    assert_eq!(part(0, 1000).await.unwrap().len(), 1000);
    is(SessionErrorKind::Invalid, &part(0, 1001).await.unwrap_err());
    assert_eq!(part(1 << 41, 10).await.unwrap(), b"");
    assert_eq!(part(u64::MAX, u64::MAX).await.unwrap(), b"");
    let rest = FileRange {
        offset: 1 << 40,
        length: None,
    };
    assert_eq!(
        provider.read_file(&id, "huge", rest).await.unwrap(),
        b"end\n"
    );
    is(
        SessionErrorKind::Invalid,
        &write(&provider, &id, "big", &[0; 1001]).await.unwrap_err(),
    );
    is(
        SessionErrorKind::NotFound,
        &read(&provider, &id, "big").await.unwrap_err(),
    );
}

#[tokio::test]
async fn the_largest_limits_let_everything_through() {
    let place = Place::new();
    let builder = place.builder().file_limit(u64::MAX).max_entries(usize::MAX);
    let builder = builder.output_limit(usize::MAX).time_limit(Duration::MAX);
    let builder = builder.grace(Duration::MAX).command_queue(usize::MAX);
    let builder = builder.idle_timeout(Duration::MAX).file_queue(usize::MAX);
    let provider = builder.max_sessions(usize::MAX).build().unwrap();
    let id = session(&provider).await;
    write(&provider, &id, "a", b"whole").await.unwrap();
    assert_eq!(read(&provider, &id, "a").await.unwrap(), b"whole");
    assert_eq!(output(&provider, &id, "cat a").await, "whole");
    assert_eq!(provider.list_directory(&id, "/").await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_file_is_where_a_command_and_a_call_both_find_it() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    assert_eq!(
        write(&provider, &id, "/tmp/a.txt", b"one").await.unwrap(),
        3
    );
    assert_eq!(
        output(&provider, &id, "cat $TMPDIR/a.txt tmp/a.txt").await,
        "oneone"
    );
    write(&provider, &id, "deep/down/b", b"two").await.unwrap();
    assert_eq!(output(&provider, &id, "cat ~/deep/down/b").await, "two");
    let home = provider.directory(&id).unwrap();
    for directory in [
        home.as_path(),
        home.parent().unwrap(),
        home.parent().unwrap().parent().unwrap(),
    ] {
        let mode = directory.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", directory.display());
    }
}

#[tokio::test]
async fn appended_text_follows_what_was_there() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    for (content, whole) in [("a", "a"), ("b", "ab"), ("", "ab")] {
        let content = content.as_bytes();
        provider
            .write_file(&id, "new/log", content, WriteMode::Append)
            .await
            .unwrap();
        assert_eq!(
            read(&provider, &id, "new/log").await.unwrap(),
            whole.as_bytes()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_while_it_is_overwritten_sees_the_old_or_the_new() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    let contents = [vec![b'a'; 1 << 20], vec![b'b'; 1 << 20]];
    write(&provider, &id, "file", &contents[0]).await.unwrap();
    let writing = async {
        for turn in 0..60 {
            write(&provider, &id, "file", &contents[turn % 2])
                .await
                .unwrap();
        }
    };
    let reading = async {
        for _ in 0..60 {
            let found = read(&provider, &id, "file").await.unwrap();
            assert!(contents.contains(&found));
        }
    };
    tokio::join!(writing, reading);
    assert!(nothing_spare(&provider, &id));
}

/// Files that are being written have no name in the session, and leave none.
fn nothing_spare(provider: &EmbeddedProvider, id: &SessionId) -> bool {
    let home = provider.directory(id).unwrap();
    let spool = home.parent().unwrap().join("spool");
    std::fs::read_dir(spool).unwrap().count() == 0
}

#[tokio::test]
async fn an_overwritten_file_keeps_its_permissions_and_a_link_to_it() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    output(
        &provider,
        &id,
        "echo old > run; chmod 751 run; ln -s run link; ln -s nothing loose",
    )
    .await;
    write(&provider, &id, "link", b"echo new").await.unwrap();
    assert_eq!(
        output(&provider, &id, "./run; stat -c %a run; readlink link").await,
        "new\n751\nrun\n"
    );
    // A link that leads nowhere is replaced.
    write(&provider, &id, "loose", b"1").await.unwrap();
    assert_eq!(read(&provider, &id, "loose").await.unwrap(), b"1");
    // A write that fails changes nothing, and leaves nothing.
    let error = write(&provider, &id, "run/below", b"1").await.unwrap_err();
    is(SessionErrorKind::Invalid, &error);
    assert_eq!(error.effect(), Effect::None);
    assert!(nothing_spare(&provider, &id));
}

#[tokio::test]
async fn a_directory_is_listed_by_name_and_no_longer_than_may_be() {
    let place = Place::new();
    let provider = place.builder().max_entries(5).build().unwrap();
    let id = session(&provider).await;
    output(
        &provider,
        &id,
        "mkdir d; cd d; mkdir b; touch a c; ln -s b link",
    )
    .await;
    let found = provider.list_directory(&id, "/d").await.unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|entry| (entry.name.as_str(), entry.kind))
        .collect();
    let (file, directory) = (EntryKind::File, EntryKind::Directory);
    assert_eq!(
        found,
        [("a", file), ("b", directory), ("c", file), ("link", file)]
    );
    output(&provider, &id, "cd d; touch e f").await;
    is(
        SessionErrorKind::Invalid,
        &provider.list_directory(&id, "d").await.unwrap_err(),
    );
    is(
        SessionErrorKind::NotFound,
        &provider.list_directory(&id, "none").await.unwrap_err(),
    );
    is(
        SessionErrorKind::Invalid,
        &provider.list_directory(&id, "d/a").await.unwrap_err(),
    );
}

#[tokio::test]
async fn files_are_found_by_name_and_links_are_not_followed() {
    let place = Place::new();
    let provider = place.builder().max_entries(20).build().unwrap();
    let id = session(&provider).await;
    output(&provider, &id, "mkdir -p src/in; touch src/a.rs src/in/b.rs src/in/c.txt x.rs; ln -s . src/me; ln -s / src/out.rs").await;
    let find = async |path: &str, pattern: &str| {
        provider
            .search_files(&id, path, pattern)
            .await
            .unwrap()
            .paths
    };
    assert_eq!(
        find("/", "*.rs").await,
        ["/src/a.rs", "/src/in/b.rs", "/src/out.rs", "/x.rs"]
    );
    assert_eq!(find("src/", "?.rs").await, ["src/a.rs", "src/in/b.rs"]);
    assert_eq!(find("/src", "in").await, ["/src/in"]);
    assert!(find("/", "none").await.is_empty());
    output(
        &provider,
        &id,
        "cd src/in; touch 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
    )
    .await;
    assert!(
        provider
            .search_files(&id, "/", "*")
            .await
            .unwrap()
            .truncated
    );
    is(
        SessionErrorKind::NotFound,
        &provider.search_files(&id, "no", "*").await.unwrap_err(),
    );
}

#[tokio::test]
async fn what_is_known_of_a_file_is_told() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    output(&provider, &id, "echo hello > a; chmod 640 a; ln -s a link").await;
    let info = provider.file_info(&id, "/a").await.unwrap();
    assert_eq!((info.name.as_str(), info.size, info.mode), ("a", 6, 0o640));
    assert!(info.is_regular && !info.is_link && info.modified.is_some());
    let link = provider.file_info(&id, "link").await.unwrap();
    assert!(link.is_link && link.is_regular && link.size == 6);
    let top = provider.file_info(&id, "/").await.unwrap();
    assert_eq!((top.name.as_str(), top.kind), ("", EntryKind::Directory));
    is(
        SessionErrorKind::NotFound,
        &provider.file_info(&id, "b").await.unwrap_err(),
    );
}

#[tokio::test]
async fn files_and_directories_are_moved_and_removed() {
    let place = Place::new();
    let provider = place.provider();
    let id = session(&provider).await;
    output(
        &provider,
        &id,
        "mkdir -p d/e; echo 1 > d/e/f; ln -s / d/slash; echo 2 > g",
    )
    .await;
    provider.move_file(&id, "g", "new/h").await.unwrap();
    assert_eq!(read(&provider, &id, "new/h").await.unwrap(), b"2\n");
    provider.move_file(&id, "d", "/new/d").await.unwrap();
    assert_eq!(read(&provider, &id, "new/d/e/f").await.unwrap(), b"1\n");
    for (from, to) in [("new", "new/d/e/under"), ("new/h", "new/d")] {
        is(
            SessionErrorKind::Invalid,
            &provider.move_file(&id, from, to).await.unwrap_err(),
        );
    }
    is(
        SessionErrorKind::NotFound,
        &provider.move_file(&id, "g", "x").await.unwrap_err(),
    );
    provider.remove(&id, "new/d/").await.unwrap();
    provider.remove(&id, "new/h").await.unwrap();
    assert!(Path::new("/etc").exists());
    is(
        SessionErrorKind::NotFound,
        &provider.remove(&id, "new/d").await.unwrap_err(),
    );
    assert!(
        provider
            .list_directory(&id, "new")
            .await
            .unwrap()
            .is_empty()
    );
    provider.create_directory(&id, "/new/x/y").await.unwrap();
    provider.create_directory(&id, "/new/x/y").await.unwrap();
    assert!(nothing_spare(&provider, &id));
}
