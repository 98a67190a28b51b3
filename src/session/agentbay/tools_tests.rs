use super::super::failure::failure;
use super::*;

#[test]
fn time_limits_are_the_service_s_at_most() {
    let ms = Duration::from_millis;
    assert_eq!(
        checked(None, LONGEST_COMMAND, "command").unwrap(),
        LONGEST_COMMAND
    );
    assert_eq!(
        checked(Some(ms(9)), LONGEST_COMMAND, "command").unwrap(),
        ms(9)
    );
    let error = checked(Some(ms(50_001)), LONGEST_COMMAND, "command").unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (Kind::Invalid, Effect::None)
    );
    assert_eq!(millis(Duration::ZERO), 1);
    assert_eq!(millis(Duration::from_micros(1500)), 2);
}

#[test]
fn languages_have_several_names() {
    assert_eq!(language(" Python3 ").unwrap(), "python");
    assert_eq!(language("JS").unwrap(), "javascript");
    let error = language("cobol").unwrap_err();
    assert_eq!(
        (error.kind(), error.effect()),
        (Kind::Unsupported, Effect::None)
    );
}

#[test]
fn a_failure_after_the_first_piece_is_partial_whatever_it_was() {
    for effect in [Effect::None, Effect::Unknown] {
        let error = failure(Kind::Connection, effect, "broke");
        assert_eq!(after(0, error.clone()).effect(), effect);
        assert_eq!(after(1, error).effect(), Effect::Partial);
    }
}
