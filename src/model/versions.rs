//! The versions of a state, numbered anew after each step: only their order means anything.

use super::state::{Lease, Op, State, Write};

impl State {
    /// Numbers the versions anew from 1: only their order means anything.
    pub(super) fn renumber(&mut self) {
        let mut used = [false; 256];
        self.versions(&mut |version| used[usize::from(*version)] = true);
        let mut ranks = [0_u8; 256];
        let mut rank = 0;
        for (version, used) in used.iter().enumerate().skip(1) {
            rank += u8::from(*used);
            ranks[version] = rank;
        }
        self.versions(&mut |version| *version = ranks[usize::from(*version)]);
        self.written = rank;
    }

    fn versions(&mut self, visit: &mut impl FnMut(&mut u8)) {
        self.api.iter_mut().flatten().for_each(|object| visit(&mut object.version));
        self.leases.iter_mut().flatten().for_each(|lease| lease.versions(visit));
        if let Some(backup) = &mut self.backup {
            backup.api.iter_mut().flatten().for_each(|object| visit(&mut object.version));
            backup.leases.iter_mut().flatten().for_each(|lease| lease.versions(visit));
        }
        for controller in &mut self.controllers {
            controller.index.iter_mut().flatten().for_each(|read| visit(&mut read.version));
            controller.op.versions(visit);
        }
        if let Some(agent) = &mut self.agent {
            agent.heard.iter_mut().flatten().for_each(|read| visit(&mut read.version));
            agent.taken.iter_mut().for_each(&mut *visit);
            agent.write.iter_mut().for_each(|write| write.versions(visit));
        }
        self.late.iter_mut().for_each(|write| write.versions(visit));
    }
}

impl Lease {
    fn versions(&mut self, visit: &mut impl FnMut(&mut u8)) {
        visit(&mut self.wish.version);
        visit(&mut self.id);
    }
}

impl Op {
    fn versions(&mut self, visit: &mut impl FnMut(&mut u8)) {
        match self {
            Self::Idle | Self::Answer { .. } => {}
            Self::Reserve(wish) => visit(&mut wish.version),
            Self::Settle(lease, wish) | Self::Help(lease, wish) => {
                lease.versions(visit);
                if let Some(wish) = wish {
                    visit(&mut wish.version);
                }
            }
            Self::Replace(lease, wish) => {
                lease.versions(visit);
                visit(&mut wish.version);
            }
            Self::Write(lease) | Self::Conflicted(lease) | Self::Drop(lease) => {
                lease.versions(visit);
            }
            Self::Tidy { version, .. } => visit(version),
        }
    }
}

impl Write {
    fn versions(&mut self, visit: &mut impl FnMut(&mut u8)) {
        match self {
            Self::Add { begun, .. } => begun.iter_mut().for_each(visit),
            Self::Observe { version, .. } | Self::Replace { version, .. } => visit(version),
        }
    }
}
