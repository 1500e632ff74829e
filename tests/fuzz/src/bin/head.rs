//! A request head reads the same in one piece, in two, asked again, and without what follows it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use namegate::wire::Look;
use namegate::wire::http::HeadReader;

fuzz_target!(|data: &[u8]| {
    let whole = HeadReader::default().look(data);
    let mut reader = HeadReader::default();
    let early = reader.look(&data[..namegate_fuzz::cut(data)]);
    assert!(early == Look::More || early == whole, "{early:?}, then {whole:?}");
    assert_eq!(reader.look(data), whole);
    assert_eq!(reader.look(data), whole);
    if let Look::Got(head) = &whole {
        assert!(data[..head.len].ends_with(b"\r\n\r\n"));
        assert_eq!(HeadReader::default().look(&data[..head.len]), whole);
        assert_eq!(HeadReader::default().look(&data[..head.len - 1]), Look::More);
    }
});
