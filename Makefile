# make            builds
# make install    as root: installs below PREFIX, and the plugin where crun looks for it
# make demo       as root: sets everything up and boots a VM
# make test       as root: sets everything up and runs all tests
# make fuzz SECONDS=60   gives hostile bytes to each fuzz target for so long (TESTS=name…: to those alone)
# make validate   formatting, lints, documentation, the generated header

PREFIX ?= /usr/local
DESTDIR ?=
CRUN ?= crun
CARGO ?= cargo
SHELL = /bin/sh

libexec = $(PREFIX)/libexec/crun-qemu
# where the plugin and the runtime executable look for crun-qemu-init
export CRUN_QEMU_LIBEXEC = $(libexec)

core = $(libexec)/crun-qemu-core.so

binaries = target/release/crun-qemu target/release/crun-qemu-init
man = $(wildcard docs/*.[1-8])
scripts = .ci/run $(wildcard util/*.sh util/bench/*.sh examples/*/run.sh util/guests/*.sh util/guests/*/recipe.sh) \
	$(addprefix util/guests/,tiny/root/etc/rc tiny/root/etc/nocloud ignition/initramfs/init ignition/initramfs/dhcp)

all: build

libraries = build/crun-qemu-core.so build/crun-qemu.so

build: $(libraries)

# Cargo knows itself what is out of date.
cargo:
	@$(CARGO) build --release

target/release/libcrun_qemu.a $(binaries): cargo ;

# The plugin has the path of its core compiled in, as the core has that of crun-qemu-init.
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
	git ls-files --error-unmatch include/crun_qemu.h >/dev/null
	git diff --exit-code -- include/crun_qemu.h
	@util/check-length.sh 300
	@if command -v shellcheck >/dev/null; then shellcheck $(scripts); else echo "shellcheck is not here: scripts were not checked"; fi

clean:
	$(CARGO) clean
	rm -rf build

.PHONY: all build cargo install uninstall demo test bench fuzz validate clean
