//! The threads that talk to libvirt: whatever they wait for, the console and the signals do not.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

use crun_qemu::error::{Context, Result};
use crun_qemu::handoff::paths;
use crun_qemu::handoff::supervisor_config::SupervisorConfig;
use nix::sys::eventfd::{EfdFlags, EventFd};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::sys;

use crate::lifecycle::{News, Order};
use crate::{button, embedded, events, privileges};

/// The VM, as seen from the main thread; its descriptor is readable when there are news.
pub struct Machine {
    orders: Sender<Order>,
    ends: Sender<Order>,
    news: Receiver<News>,
    bell: Arc<EventFd>,
}

impl Machine {
    /// Starts the domain, in a thread of its own.
    pub fn start(launch: SupervisorConfig) -> Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(Arc::new);
        let bell = bell.context("eventfd")?;
        let ((orders, inbox), (ends, end_box), (tell, news)) = (channel(), channel(), channel());
        let teller = Teller { tell, bell: bell.clone() };
        thread::Builder::new()
            .name("libvirt".into())
            .spawn(move || {
                if let Err(e) = live(&launch, [inbox, end_box], &teller) {
                    teller.tell(News::StartFailed(e));
                }
            })
            .context("thread")?;
        Ok(Self { orders, ends, news, bell })
    }

    /// Has the order carried out soon; how it went comes as news. Only for a VM that runs.
    pub fn order(&self, order: Order) {
        // A QEMU that does not answer any more keeps an order waiting, and it must be possible to end that one, too.
        let orders = if matches!(order, Order::Destroy | Order::Quit) { &self.ends } else { &self.orders };
        // This fails only when the thread is gone, and that comes as news.
        let _ = orders.send(order);
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
fn live(launch: &SupervisorConfig, orders: [Receiver<Order>; 2], teller: &Teller) -> Result<()> {
    let (_connection, domain) = start(launch, teller)?;
    for (orders, name) in orders.into_iter().zip(["orders", "end"]) {
        let (domain, teller) = (domain.clone(), teller.clone());
        let obey = move || {
            for order in orders {
                match carry_out(&domain, order) {
                    Ok(news) => news.into_iter().for_each(|news| teller.tell(news)),
                    // That QEMU is gone is told by itself.
                    Err(_) if domain.is_active().is_ok_and(|active| !active) => {}
                    Err(e) => teller.tell(News::OrderFailed(order, embedded::error(e))),
                }
            }
        };
        thread::Builder::new().name(name.into()).spawn(obey).context("thread")?;
    }
    teller.tell(News::Started);
    loop {
        virt::event::event_run_default_impl().map_err(embedded::error)?;
    }
}

fn start(launch: &SupervisorConfig, teller: &Teller) -> Result<(Connect, Domain)> {
    let connection = embedded::connect(Path::new(paths::LIBVIRT))?;
    teller.tell(News::Connected);
    let teller = teller.clone();
    events::watch(&connection, move |news| teller.tell(news))?;
    embedded::learn_capabilities(&connection)?;
    // Descriptors are for a domain that libvirt knows already.
    let domain = connection.define_domain_xml(&launch.domain).map_err(embedded::error)?;
    launch.files.iter().try_for_each(|file| embedded::hand_over(&domain, file))?;
    embedded::can_copy(&launch.files)?;
    if launch.low_port { privileges::keep_ports() } else { privileges::bound() }?;
    domain.create().map_err(embedded::error)?;
    Ok((connection, domain))
}

fn carry_out(domain: &Domain, order: Order) -> std::result::Result<Option<News>, virt::error::Error> {
    match order {
        Order::PowerButton => return button::press(domain).map(|button| Some(News::Button(button))),
        Order::Destroy => domain.destroy(),
        Order::Quit => domain.destroy_flags(sys::VIR_DOMAIN_DESTROY_GRACEFUL),
        Order::Resume => domain.resume().map(drop),
        Order::Wake => domain.pm_wakeup(0).map(drop),
        Order::Memory(bytes) => domain.set_memory(bytes >> 10),
    }?;
    Ok(None)
}
