//! Merges the administrator's document into the domain. Pure.
//!
//! An element is merged into its counterpart: its attributes and text replace the counterpart's, its children are
//! merged into the counterpart's children, and an element without a counterpart is added. Nothing can be removed.

use super::tree::Element;

/// Elements that may repeat and that nothing distinguishes: each is added.
const ADDED: &[&str] = &["entry", "hostdev", "qemu:arg", "qemu:env"];
/// Attributes of `<target>` that identify a device.
const PLACE: &[&str] = &["dev", "dir", "port"];
/// Parents whose children of one name differ by `type`.
const OF_KINDS: &[&str] = &["devices", "domain"];

/// Attribute of `<source>` that names the file's descriptor.
pub(super) const DESCRIPTOR: &str = "fdgroup";

impl Element {
    /// Merges `over` into this element.
    pub fn merge(&mut self, over: Self) {
        // The descriptor belongs to the file that is replaced.
        if over.attribute("file").is_some() {
            self.attributes.retain(|(name, _)| name != DESCRIPTOR);
        }
        for (name, value) in over.attributes {
            match self.attributes.iter_mut().find(|(key, _)| *key == name) {
                Some(attribute) => attribute.1 = value,
                None => self.attributes.push((name, value)),
            }
        }
        if !over.text.is_empty() {
            self.text = over.text;
        }
        let places: Vec<_> = over.children.iter().map(|child| self.counterpart(child, &over.children)).collect();
        for (child, place) in over.children.into_iter().zip(places) {
            match place {
                Some(index) => self.children[index].merge(child),
                None => self.children.push(child),
            }
        }
    }

    /// Index of the child that `child` matches, if each is the other's only match; `all` are the siblings of `child`.
    fn counterpart(&self, child: &Self, all: &[Self]) -> Option<usize> {
        let matches = |child: &Self, mine: &Self| self.alike(child, mine);
        let mut candidates = (0..self.children.len()).filter(|index| matches(child, &self.children[*index]));
        let index = candidates.next().filter(|_| candidates.next().is_none())?;
        (all.iter().filter(|other| matches(other, &self.children[index])).count() == 1).then_some(index)
    }

    /// Whether two children of this element may be the same device or setting: nothing that both state differs.
    fn alike(&self, a: &Self, b: &Self) -> bool {
        let agree = |a: &Self, b: &Self, name| match (a.attribute(name), b.attribute(name)) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        let of_kinds = OF_KINDS.contains(&&*self.name);
        let same_place = match (a.child("target"), b.child("target")) {
            (Some(a), Some(b)) => PLACE.iter().all(|name| agree(a, b, name)),
            _ => true,
        };
        a.name == b.name && !ADDED.contains(&&*a.name) && (!of_kinds || agree(a, b, "type")) && same_place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(ours: &str, over: &str) -> String {
        let mut ours = Element::parse(ours).unwrap();
        ours.merge(Element::parse(over).unwrap());
        // Without indentation.
        ours.document().lines().map(str::trim).collect()
    }

    #[test]
    fn rules() {
        let disks = "<disk type='file'><target dev='vda'/></disk><disk type='file'><target dev='vdb'/></disk>";
        let devices = |inner: &str| format!("<domain><devices>{inner}</devices></domain>");
        for (ours, over, want) in [
            (
                "<domain><memory unit='b'>1</memory></domain>",
                "<domain/>",
                r#"<domain><memory unit="b">1</memory></domain>"#,
            ),
            // Attributes and text are replaced, what is new is added.
            (
                "<domain type='kvm'><memory unit='b'>1</memory><os/></domain>",
                "<domain id='7'><memory unit='GiB'>4</memory><title>a &lt; b</title></domain>",
                r#"<domain type="kvm" id="7"><memory unit="GiB">4</memory><os/><title>a &lt; b</title></domain>"#,
            ),
            // A disk is identified by its target.
            (
                &devices(disks),
                &devices("<disk><driver cache='none'/><target dev='vda'/></disk>"),
                r#"<domain><devices><disk type="file"><target dev="vda"/><driver cache="none"/></disk><disk type="file"><target dev="vdb"/></disk></devices></domain>"#,
            ),
            (
                &devices("<disk type='file'><target dev='vda'/></disk>"),
                &devices("<disk type='file'><target dev='vdx'/></disk>"),
                r#"<domain><devices><disk type="file"><target dev="vda"/></disk><disk type="file"><target dev="vdx"/></disk></devices></domain>"#,
            ),
            // Replacing the file drops the descriptor.
            (
                "<source file='/a' fdgroup='/a'/>",
                "<source startupPolicy='x'/>",
                r#"<source file="/a" fdgroup="/a" startupPolicy="x"/>"#,
            ),
            ("<source file='/a' fdgroup='/a'/>", "<source file='/b'/>", r#"<source file="/b"/>"#),
            // A different type is another device; without a type it matches the only one.
            (
                &devices("<interface type='ethernet'><model type='virtio'/></interface>"),
                &devices("<interface type='user'/>"),
                r#"<domain><devices><interface type="ethernet"><model type="virtio"/></interface><interface type="user"/></devices></domain>"#,
            ),
            (
                &devices("<interface type='ethernet'><model type='virtio'/></interface>"),
                &devices("<interface><model type='e1000e'/></interface>"),
                r#"<domain><devices><interface type="ethernet"><model type="e1000e"/></interface></devices></domain>"#,
            ),
            // Two that match the same device match none.
            (
                &devices("<input bus='usb'/>"),
                &devices("<input bus='ps2'/><input/>"),
                r#"<domain><devices><input bus="usb"/><input bus="ps2"/><input/></devices></domain>"#,
            ),
            // Always added.
            (
                &devices("<hostdev type='pci'/>"),
                &devices("<hostdev type='pci'/>"),
                r#"<domain><devices><hostdev type="pci"/><hostdev type="pci"/></devices></domain>"#,
            ),
            (
                "<domain><sysinfo type='smbios'><oemStrings><entry>a</entry></oemStrings></sysinfo><sysinfo type='fwcfg'/></domain>",
                "<domain><sysinfo type='smbios'><oemStrings><entry>b</entry></oemStrings></sysinfo></domain>",
                r#"<domain><sysinfo type="smbios"><oemStrings><entry>a</entry><entry>b</entry></oemStrings></sysinfo><sysinfo type="fwcfg"/></domain>"#,
            ),
        ] {
            assert_eq!(merged(ours, over), want, "{over}");
        }
    }

    #[test]
    fn documents_are_read_whole_or_not_at_all() {
        let read = |text: &str| Element::parse(text).map(|element| element.document());
        let kept = "<?xml version='1.0'?><!-- c --><a b='1&amp;&#50;'>x &lt;<![CDATA[<y>]]>&quot;</a>\n";
        assert_eq!(read(kept).unwrap(), "<a b=\"1&amp;2\">x &lt;&lt;y&gt;&quot;</a>\n");
        for (text, want) in [
            ("", "it has no root element"),
            ("<a>", "it ends within <a>"),
            ("<a/><b/>", "it has more than one root element"),
            ("<a/>x", "there is text outside the root element"),
            ("<a>&x;</a>", "the entity x is unknown"),
            ("<!DOCTYPE a><a/>", "it has a document type, which libvirt does not use"),
            (&"<a>".repeat(65), "nested more than 64 levels deep"),
            ("<a>\x01</a>", "'\\u{1}' is not text"),
            ("<a b='&#1;'/>", "'\\u{1}' is not text"),
            ("<a]/>", "\"a]\" is not a name"),
            ("<a 1='2'/>", "\"1\" is not a name"),
        ] {
            assert_eq!(read(text), Err(want.into()), "{text}");
        }
        for text in ["<a></b>", "<a b='1' b='2'/>", "<a b=1/>", "<a", "<a b='&x;'/>"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
