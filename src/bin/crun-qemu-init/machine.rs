//! The thread that talks to libvirt: whatever libvirt waits for, the console and the signals do not.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

use crun_qemu::error::{Context, Result};
use crun_qemu::launch::Launch;
use crun_qemu::paths;
use nix::sys::eventfd::{EfdFlags, EventFd};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::sys;

use crate::lifecycle::{News, Order};
use crate::{embedded, privileges};

/// The VM, as seen from the main thread; its descriptor is readable when there are news.
pub struct Machine {
    orders: Sender<Order>,
    wake: Arc<EventFd>,
    news: Receiver<News>,
    bell: Arc<EventFd>,
}

impl Machine {
    /// Starts the domain, in a thread of its own.
    pub fn start(launch: Launch) -> Result<Self> {
        let event = || EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(Arc::new);
        let (wake, bell) = (event().context("eventfd")?, event().context("eventfd")?);
        let (orders, inbox) = channel();
        let (tell, news) = channel();
        let teller = Teller { tell, bell: bell.clone() };
        let woken = wake.clone();
        thread::Builder::new()
            .name("libvirt".into())
            .spawn(move || {
                if let Err(e) = live(&launch, inbox, woken, &teller) {
                    teller.tell(News::StartFailed(e));
                }
            })
            .context("thread")?;
        Ok(Self { orders, wake, news, bell })
    }

    /// Has the order carried out soon; how it went comes as news. Only for a VM that runs.
    pub fn order(&self, order: Order) {
        // Both fail only when the thread is gone, and that comes as news.
        let _ = self.orders.send(order);
        let _ = self.wake.write(1);
    }

    /// The next news, if any.
    pub fn next(&self) -> Option<News> {
        match self.news.try_recv() {
            Ok(news) => Some(news),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(News::Lost),
        }
    }

    /// Silences the bell; to be called before [`Machine::next`], so that nothing told meanwhile is missed.
    pub fn hush(&self) {
        let _ = self.bell.read();
    }
}

impl AsFd for Machine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// The thread's way of telling, and that it is gone when it is dropped.
#[derive(Clone)]
struct Teller {
    tell: Sender<News>,
    bell: Arc<EventFd>,
}

impl Teller {
    fn tell(&self, news: News) {
        let _ = self.tell.send(news);
        let _ = self.bell.write(1);
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let _ = self.bell.write(1);
    }
}

/// Starts the domain and runs libvirt's event loop for ever; returns only if the start fails.
fn live(launch: &Launch, orders: Receiver<Order>, wake: Arc<EventFd>, teller: &Teller) -> Result<()> {
    let (_connection, domain) = start(launch, teller)?;
    let teller_of_orders = teller.clone();
    let fd = wake.as_raw_fd();
    let on_wake = move |_, _, _, _| {
        let _ = wake.read();
        for order in orders.try_iter() {
            if let Err(e) = carry_out(&domain, order) {
                teller_of_orders.tell(News::OrderFailed(embedded::error(e)));
            }
        }
    };
    virt::event::event_add_handle(fd, sys::VIR_EVENT_HANDLE_READABLE, on_wake, std::ptr::null_mut())
        .map_err(embedded::error)?;
    teller.tell(News::Started);
    loop {
        virt::event::event_run_default_impl().map_err(embedded::error)?;
    }
}

fn start(launch: &Launch, teller: &Teller) -> Result<(Connect, Domain)> {
    let connection = embedded::connect(Path::new(paths::LIBVIRT))?;
    teller.tell(News::Connected);
    let teller = teller.clone();
    embedded::watch(&connection, move |news| teller.tell(news))?;
    embedded::learn_capabilities(&connection)?;
    // Descriptors are for a domain that libvirt knows already.
    let domain = connection.define_domain_xml(&launch.domain).map_err(embedded::error)?;
    launch.files.iter().try_for_each(|file| embedded::hand_over(&domain, file))?;
    if launch.low_port { privileges::keep_ports() } else { privileges::bound() }?;
    domain.create().map_err(embedded::error)?;
    Ok((connection, domain))
}

fn carry_out(domain: &Domain, order: Order) -> std::result::Result<(), virt::error::Error> {
    match order {
        Order::PowerButton => domain.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN),
        Order::Destroy => domain.destroy(),
        Order::Memory(bytes) => domain.set_memory(bytes >> 10),
    }
}
