//! XML as a tree: elements with attributes and either text or elements, which is all that libvirt's documents contain.

use std::io;

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use quick_xml::{Reader, Writer, XmlVersion};

/// Deepest nesting accepted; libvirt's documents stay far below it.
const DEEPEST: usize = 64;

/// Checks a name: quick-xml accepts any bytes, and libvirt, which reads the document next, does not.
fn name(text: &str) -> Result<String, String> {
    let first = |c: char| c.is_alphabetic() || c == '_';
    let plain = |c: char| first(c) || c.is_numeric() || "-.:".contains(c);
    match text.starts_with(first) && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is not a name")),
    }
}

/// Checks text for characters that XML forbids even as references.
fn characters(text: String) -> Result<String, String> {
    let no = |c: char| matches!(c, '\0'..' ' | '\u{fffe}' | '\u{ffff}') && !matches!(c, '\t' | '\n' | '\r');
    match text.find(no) {
        Some(at) => Err(format!("{:?} is not text", &text[at..].chars().next().unwrap_or_default())),
        None => Ok(text),
    }
}

/// An element and everything in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// Name with its prefix.
    pub name: String,
    /// Names and values, in document order.
    pub attributes: Vec<(String, String)>,
    /// Text; empty if there is only white space.
    pub text: String,
    /// Child elements, in document order.
    pub children: Vec<Element>,
}

impl Element {
    /// Parses a document.
    ///
    /// # Errors
    /// What is wrong with the document.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader::from_str(text);
        let (mut open, mut root): (Vec<Self>, Option<Self>) = (Vec::new(), None);
        loop {
            let event = reader.read_event().map_err(|e| format!("at byte {}: {e}", reader.error_position()))?;
            let (text, closed) = match &event {
                Event::Start(start) if open.len() < DEEPEST => {
                    open.push(Self::start(start)?);
                    continue;
                }
                Event::Start(_) => return Err(format!("nested more than {DEEPEST} levels deep")),
                Event::Empty(start) => (None, Some(Self::start(start)?)),
                Event::End(_) => (None, open.pop().map(Self::finished)),
                Event::Text(text) => (Some(text.xml10_content().into_owned()), None),
                Event::CData(text) => (Some(text.xml10_content().into_owned()), None),
                Event::GeneralRef(name) => {
                    let character = name.resolve_char_ref().map_err(|e| e.to_string())?.map(String::from);
                    let known = character.or_else(|| resolve_predefined_entity(name).map(str::to_string));
                    (Some(known.ok_or_else(|| format!("the entity {} is unknown", &**name))?), None)
                }
                Event::DocType(_) => return Err("it has a document type, which libvirt does not use".into()),
                Event::Eof => break,
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => continue,
            };
            match (text, closed, open.last_mut()) {
                (Some(text), _, Some(parent)) => parent.text.push_str(&characters(text)?),
                (Some(text), _, None) if !text.trim().is_empty() => {
                    return Err("there is text outside the root element".into());
                }
                (_, Some(child), Some(parent)) => parent.children.push(child),
                (_, Some(_), None) if root.is_some() => return Err("it has more than one root element".into()),
                (_, Some(child), None) => root = Some(child),
                _ => {}
            }
        }
        match open.pop() {
            Some(element) => Err(format!("it ends within <{}>", element.name)),
            None => root.ok_or_else(|| "it has no root element".into()),
        }
    }

    fn start(start: &BytesStart) -> Result<Self, String> {
        let mut element = Self { name: name(start.name().as_ref())?, ..Self::default() };
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|e| format!("<{}>: {e}", element.name))?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            let value = value.map_err(|e| format!("<{}>: {e}", element.name))?.into_owned();
            element.attributes.push((name(attribute.key.as_ref())?, characters(value)?));
        }
        Ok(element)
    }

    fn finished(mut self) -> Self {
        if self.text.trim().is_empty() {
            self.text.clear();
        }
        self
    }

    /// An element without content.
    pub fn new(name: &str, attributes: &[(&str, &str)]) -> Self {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { name: name.to_owned(), attributes, ..Self::default() }
    }

    /// An element without attributes that contains only text.
    pub fn text(name: &str, text: impl Into<String>) -> Self {
        Self::new(name, &[]).with_text(text)
    }

    /// An element without attributes that contains only elements.
    pub fn parent(name: &str, children: impl IntoIterator<Item = Self>) -> Self {
        Self::new(name, &[]).with(children)
    }

    /// The element with this text.
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    /// The element with these children after those it has.
    pub fn with(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    /// The whole document, indented; quick-xml escapes.
    pub fn document(&self) -> String {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        // Writing to a Vec cannot fail.
        let _ = self.write(&mut writer);
        String::from_utf8_lossy(&writer.into_inner()).into_owned() + "\n"
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
        let attributes = self.attributes.iter().map(|(name, value)| (&**name, &**value));
        let start = BytesStart::new(&*self.name).with_attributes(attributes);
        if self.text.is_empty() && self.children.is_empty() {
            return writer.write_event(Event::Empty(start));
        }
        writer.write_event(Event::Start(start))?;
        if self.children.is_empty() {
            writer.write_event(Event::Text(BytesText::new(&self.text)))?;
        }
        self.children.iter().try_for_each(|child| child.write(writer))?;
        writer.write_event(Event::End(BytesEnd::new(&*self.name)))
    }

    /// Value of the attribute `name`.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first child with this name.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The children with this name, in order.
    pub fn children_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }
}
