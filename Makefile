# make            builds the plugin and the executables
# make install    as root: installs below PREFIX, and the plugin where crun looks for it
# make uninstall  as root: removes what make install has installed
# make demo       as root: installs everything that is needed, and boots a VM
# make test       as root: installs everything that is needed, and runs all tests, or those in TESTS
# make bench      as root: installs everything that is needed, and measures what a VM costs
# make fuzz       fuzzes each target, or those in TESTS, for SECONDS (60) each
# make validate   checks formatting, lints, documentation and the generated header

PREFIX ?= /usr/local
DESTDIR ?=
CRUN ?= crun
CARGO ?= cargo
SHELL = /bin/sh

libexec = $(PREFIX)/libexec/crun-qemu
# The plugin and the runtime executable look for crun-qemu-init here.
export CRUN_QEMU_LIBEXEC = $(libexec)

core = $(libexec)/crun-qemu-core.so

binaries = target/release/crun-qemu target/release/crun-qemu-init
man = $(wildcard docs/*.[1-8])
scripts = .ci/run $(wildcard util/*.sh util/bench/*.sh examples/*/run.sh util/guests/*.sh util/guests/*/recipe.sh) \
	$(addprefix util/guests/,tiny/root/etc/rc tiny/root/etc/nocloud ignition/initramfs/init ignition/initramfs/dhcp)

all: build

libraries = build/crun-qemu-core.so build/crun-qemu.so

build: $(libraries)

# Cargo decides what is out of date.
cargo:
	@$(CARGO) build --release

target/release/libcrun_qemu.a $(binaries): cargo ;

# The path of the core is compiled into the plugin, and that of crun-qemu-init into the core.
build/core-path: cargo
	@mkdir -p build
	@echo $(core) | cmp -s - $@ || echo $(core) > $@

$(libraries) &: target/release/libcrun_qemu.a build/core-path util/link-plugin.sh $(wildcard crun-handler/* include/*.h)
	CC="$(CC)" LDFLAGS="$(LDFLAGS)" util/link-plugin.sh target/release/libcrun_qemu.a build $(core)

install: build
	@util/install-file.sh 755 target/release/crun-qemu $(DESTDIR)$(PREFIX)/bin
	@util/install-file.sh 755 target/release/crun-qemu-init $(DESTDIR)$(libexec)
	@util/install-file.sh 644 build/crun-qemu-core.so $(DESTDIR)$(libexec)
	@for m in $(man); do util/install-file.sh 644 $$m $(DESTDIR)$(PREFIX)/share/man/man$${m##*.} || exit; done
	@CRUN=$(CRUN) DESTDIR=$(DESTDIR) util/install-plugin.sh build/crun-qemu.so

uninstall:
	CRUN=$(CRUN) DESTDIR=$(DESTDIR) util/install-plugin.sh --uninstall
	rm -f $(DESTDIR)$(PREFIX)/bin/crun-qemu $(DESTDIR)$(libexec)/crun-qemu-init $(DESTDIR)$(core)
	rm -f $(foreach m,$(man),$(DESTDIR)$(PREFIX)/share/man/man$(subst .,,$(suffix $(m)))/$(notdir $(m)))
	[ ! -d $(DESTDIR)$(libexec) ] || rmdir $(DESTDIR)$(libexec)

demo:
	@util/setup.sh run build test
	@$(MAKE) --no-print-directory install
	@util/demo.sh

test:
	@util/setup.sh run build test
	@$(MAKE) --no-print-directory install
	@util/test.sh $(TESTS)

bench:
	@util/setup.sh run build test
	@$(MAKE) --no-print-directory install
	@util/bench.sh

SECONDS = 60

fuzz:
	@util/setup.sh build test
	@util/fuzz.sh $(SECONDS) $(TESTS)

validate:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --no-deps --document-private-items
	$(CARGO) test --package crun-qemu --lib header_declares_the_exports
	@util/check-length.sh 300
	@if command -v shellcheck >/dev/null; then shellcheck $(scripts); else echo "shellcheck is not installed: scripts were not checked"; fi

clean:
	$(CARGO) clean
	rm -rf build

.PHONY: all build cargo install uninstall demo test bench fuzz validate clean
