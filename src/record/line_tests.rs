//! The spelling of every kind of event, as snapshots that are read in review. Knows the samples alone.

use super::super::samples;
use super::*;

#[test]
fn every_kind_of_event_is_spelled_in_ecs() {
    let mut lines = Vec::new();
    for (_, event) in samples::all() {
        write(&event, &mut lines);
    }
    insta::assert_snapshot!("lines", String::from_utf8(lines).unwrap());
}

#[test]
fn every_line_is_one_json_object_without_nulls_or_empty_objects() {
    for (name, event) in samples::all() {
        let mut line = Vec::new();
        write(&event, &mut line);
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1, "{name}");
        assert!(line.iter().all(|&byte| byte == b'\n' || byte >= b' '), "{name}");
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert!(!hollow(&value), "{name}: {value}");
        assert_eq!(value["ecs"]["version"], ECS);
    }
}

fn hollow(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::Array(items) => items.is_empty() || items.iter().any(hollow),
        serde_json::Value::Object(fields) => fields.is_empty() || fields.values().any(hollow),
        serde_json::Value::Bool(_) | serde_json::Value::Number(_) | serde_json::Value::String(_) => false,
    }
}

#[test]
fn lines_are_appended_to_what_the_buffer_holds() {
    let mut out = b"before\n".to_vec();
    write(&samples::all()[0].1, &mut out);
    assert!(out.starts_with(b"before\n{\"@timestamp\":\"2026-11-23T17:21:46.839080Z\""));
}

#[test]
fn evidence_from_before_and_after_the_event_is_on_the_wall_clock_of_the_event() {
    let at = samples::moment(0);
    let second = Duration::from_secs(1);
    assert_eq!(wall(at, at.tick), at.wall);
    assert_eq!(wall(at, at.tick.after(second)), at.wall + second);
    assert_eq!(wall(samples::moment(1_000), at.tick), at.wall);
}
