//! A second reading of where requests begin and end: `httparse` for heads and chunk sizes, the rest from
//! RFC 9112 sections 6.3 and 7.1. Knows nothing of the parser that it is held against, and is more lenient.

use std::mem::MaybeUninit;

/// One request as this reading frames it.
#[derive(Debug, PartialEq, Eq)]
pub struct Framed {
    /// Where it starts.
    pub start: usize,
    /// Where its head ends.
    pub head_end: usize,
    /// Where the next one starts; `None`: its body is not there in full.
    pub end: Option<usize>,
    /// The values of every Host, and the authority of an absolute-form target.
    pub hosts: Vec<Vec<u8>>,
    /// It asks for WebSocket.
    pub websocket: bool,
}

/// More fields than 8 KiB of head can hold.
const MOST_FIELDS: usize = 2_100;

/// Reads requests until there is no whole head left; the number is where that is.
///
/// # Errors
/// What cannot be read, and where.
pub fn requests(bytes: &[u8]) -> Result<(Vec<Framed>, usize), (String, usize)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let Some(framed) = request(bytes, at).map_err(|why| (why, at))? else { break };
        let end = framed.end;
        found.push(framed);
        at = end.unwrap_or(bytes.len());
    }
    Ok((found, at))
}

fn request(bytes: &[u8], start: usize) -> Result<Option<Framed>, String> {
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(&bytes[start..], &mut fields);
    let httparse::Status::Complete(len) = parsed.map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let head_end = start + len;
    let values = |name: &str| -> Vec<&[u8]> {
        let same = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        same.map(|field| field.value).collect()
    };
    let target = request.path.unwrap_or_default();
    let absolute =
        Some(target).filter(|target| !target.starts_with('/')).and_then(|target| target.split_once("://"));
    let authority = absolute.map(|(_, rest)| rest.split(['/', '?']).next().unwrap_or(rest));
    let hosts = values("host").into_iter().chain(authority.map(str::as_bytes)).map(<[u8]>::to_vec).collect();
    let body = &bytes[head_end..];
    let body_len = match (&values("transfer-encoding")[..], &values("content-length")[..]) {
        ([], []) => Some(0),
        ([], [length]) => {
            let length = str::from_utf8(length).ok().and_then(|digits| digits.parse::<u64>().ok());
            let length = length.ok_or("no length")?;
            usize::try_from(length).ok().filter(|length| *length <= body.len())
        }
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") => chunked(body)?,
        (codings, lengths) => return Err(format!("codings {codings:?}, lengths {lengths:?}")),
    };
    let websocket = values("upgrade").iter().any(|to| to.eq_ignore_ascii_case(b"websocket"));
    Ok(Some(Framed { start, head_end, end: body_len.map(|len| head_end + len), hosts, websocket }))
}

/// Returns the length of a chunked body; `None`: it is not there in full.
fn chunked(body: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let size = httparse::parse_chunk_size(&body[at..]).map_err(|error| error.to_string())?;
        let httparse::Status::Complete((line, size)) = size else { return Ok(None) };
        at += line;
        if size == 0 {
            let mut trailers = [httparse::EMPTY_HEADER; 64];
            // A broken trailer ends the connection, not what passed of the body before it.
            return Ok(match httparse::parse_headers(&body[at..], &mut trailers) {
                Ok(httparse::Status::Complete((len, _))) => Some(at + len),
                Ok(httparse::Status::Partial) | Err(_) => None,
            });
        }
        let Some(end) = usize::try_from(size).ok().and_then(|size| at.checked_add(size)) else {
            return Ok(None);
        };
        match body.get(end..).map(|rest| &rest[..rest.len().min(2)]) {
            Some(b"\r\n") => at = end + 2,
            None | Some(b"" | b"\r") => return Ok(None),
            Some(other) => return Err(format!("{other:?} after a chunk")),
        }
    }
}
