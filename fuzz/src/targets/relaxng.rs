//! libvirt's schema, and whether a document is one at all, by the library that libvirt reads documents with.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::NonNull;

const SCHEMA: &CStr = c"/usr/share/libvirt/schemas/domain.rng";
/// No messages on stderr, nothing from the network.
const QUIET: c_int = 1 << 5 | 1 << 6 | 1 << 11;

#[link(name = "xml2")]
unsafe extern "C" {
    fn xmlReadMemory(
        text: *const c_char,
        len: c_int,
        url: *const c_char,
        encoding: *const c_char,
        options: c_int,
    ) -> *mut c_void;
    fn xmlFreeDoc(doc: *mut c_void);
    fn xmlRelaxNGNewParserCtxt(url: *const c_char) -> *mut c_void;
    fn xmlRelaxNGParse(parser: *mut c_void) -> *mut c_void;
    fn xmlRelaxNGFreeParserCtxt(parser: *mut c_void);
    fn xmlRelaxNGNewValidCtxt(schema: *mut c_void) -> *mut c_void;
    fn xmlRelaxNGValidateDoc(valid: *mut c_void, doc: *mut c_void) -> c_int;
    fn xmlRelaxNGFreeValidCtxt(valid: *mut c_void);
    fn xmlRelaxNGSetValidErrors(
        valid: *mut c_void,
        error: Option<unsafe extern "C" fn(*mut c_void, *const c_char, ...)>,
        warning: Option<unsafe extern "C" fn(*mut c_void, *const c_char, ...)>,
        context: *mut c_void,
    );
}

/// A document that was read.
struct Document(NonNull<c_void>);

impl Document {
    fn read(text: &str) -> Option<Self> {
        let len = c_int::try_from(text.len()).ok()?;
        // SAFETY: `len` bytes are there; no other pointer is given.
        let doc = unsafe { xmlReadMemory(text.as_ptr().cast(), len, std::ptr::null(), c"UTF-8".as_ptr(), QUIET) };
        NonNull::new(doc).map(Self)
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        // SAFETY: it is a document of nobody else's.
        unsafe { xmlFreeDoc(self.0.as_ptr()) }
    }
}

/// Says whether it is XML.
pub fn well_formed(text: &str) -> Result<(), &'static str> {
    Document::read(text).map(drop).ok_or("libxml2 cannot read it")
}

/// Says whether libvirt's schema takes it; everything is taken where libvirt's schemas are not installed.
pub fn validate(text: &str) -> Result<(), &'static str> {
    thread_local! {
        static LOADED: Option<NonNull<c_void>> = load();
    }
    let doc = Document::read(text).ok_or("libxml2 cannot read it")?;
    let Some(schema) = LOADED.with(|schema| *schema) else { return Ok(()) };
    // SAFETY: the schema and the document live until the call returns, and the context is freed once.
    let verdict = unsafe {
        let valid = xmlRelaxNGNewValidCtxt(schema.as_ptr());
        xmlRelaxNGSetValidErrors(valid, None, None, std::ptr::null_mut());
        let verdict = xmlRelaxNGValidateDoc(valid, doc.0.as_ptr());
        xmlRelaxNGFreeValidCtxt(valid);
        verdict
    };
    if verdict == 0 { Ok(()) } else { Err("libvirt's schema refuses it") }
}

/// Whether there is a schema to be asked.
pub fn is_there() -> bool {
    std::path::Path::new(SCHEMA.to_str().unwrap_or_default()).exists()
}

/// Once in a thread, for good.
fn load() -> Option<NonNull<c_void>> {
    if !is_there() {
        return None;
    }
    // SAFETY: the path is a constant; the schema lives on without its parser, which nobody else has.
    let schema = unsafe {
        let parser = xmlRelaxNGNewParserCtxt(SCHEMA.as_ptr());
        let schema = xmlRelaxNGParse(parser);
        xmlRelaxNGFreeParserCtxt(parser);
        schema
    };
    Some(NonNull::new(schema).expect("libvirt's own schema"))
}
