//! The calls of a process, as the simulated disk serves them.

use std::io;
use std::path::{Path, PathBuf};

use super::content::{Change, Inode};
use super::point::Call;
use super::{SECTOR, SimDisk, State, due, eio, eio_of_system, off};
use crate::storage::{File, Guard, Mode, Storage};

struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    inode: u64,
    boot: u64,
}

impl SimFile {
    fn inode<'a>(&self, state: &'a mut State) -> io::Result<&'a mut Inode> {
        state.inode(self.inode, self.boot)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.0.state.lock();
        if state.boot == self.boot
            && let Some(handles) = state.open.get_mut(&self.inode)
        {
            *handles -= 1;
            if *handles == 0 {
                state.open.remove(&self.inode);
            }
        }
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    boot: u64,
}

impl Guard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.0.state.lock();
        if state.boot == self.boot {
            state.locks.remove(&self.path);
        }
    }
}

impl Storage for SimDisk {
    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        self.0.state.lock().alive()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.0.state.lock();
        state.alive()?;
        if state.unlistable.contains(dir) {
            return Err(eio_of_system());
        }
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn File>> {
        let mut state = self.0.state.lock();
        state.alive()?;
        let known = state.names.get(path).copied();
        if known.is_some_and(|inode| state.withheld.contains(&inode)) {
            return Err(rustix::io::Errno::MFILE.into());
        }
        if known.is_some_and(|inode| state.unopenable.contains(&inode)) {
            return Err(eio_of_system());
        }
        let inode = match (known, mode) {
            (Some(inode), Mode::Read | Mode::Write) => inode,
            (None, Mode::Read | Mode::Write) => return Err(io::ErrorKind::NotFound.into()),
            (Some(inode), Mode::Create) => {
                if state.power_goes(Call::Create, path)? {
                    return Err(off());
                }
                if let Some(inode) = state.inodes.get_mut(&inode) {
                    inode.cache.clear();
                    inode.dirty.clear();
                }
                inode
            }
            (None, Mode::Create) => {
                let power_goes = state.power_goes(Call::Create, path)?;
                let inode = state.next_inode;
                state.next_inode += 1;
                state.inodes.insert(inode, Inode::default());
                state.change(Change::Set(path.to_owned(), inode));
                if power_goes {
                    return Err(off());
                }
                inode
            }
        };
        *state.open.entry(inode).or_default() += 1;
        Ok(Box::new(SimFile { disk: self.clone(), path: path.to_owned(), inode, boot: state.boot }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.state.lock();
        let power_goes = state.power_goes(Call::Rename, from)?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(Change::Rename(from.to_owned(), to.to_owned()));
        if power_goes { Err(off()) } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.state.lock();
        let power_goes = state.power_goes(Call::Unlink, path)?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(Change::Unset(path.to_owned()));
        if power_goes { Err(off()) } else { Ok(()) }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let (mut state, fails) = self.sync_gate(Call::SyncDir, dir)?;
        if fails {
            return Err(eio());
        }
        let (here, elsewhere) =
            std::mem::take(&mut state.pending).into_iter().partition::<Vec<_>, _>(|c| c.dir() == Some(dir));
        for change in here {
            change.apply(&mut state.durable);
        }
        state.pending = elsewhere;
        state.make_good();
        state.syncs += 1;
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Guard>>> {
        let mut state = self.0.state.lock();
        state.alive()?;
        if !state.locks.insert(path.to_owned()) {
            return Ok(None);
        }
        Ok(Some(Box::new(SimLock { disk: self.clone(), path: path.to_owned(), boot: state.boot })))
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.0.state.lock();
        state.alive()?;
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut state = self.0.state.lock();
        for part in bytes.chunks_mut(8) {
            let random = state.random().to_le_bytes();
            part.copy_from_slice(&random[..part.len()]);
        }
        Ok(())
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.0.state.lock();
        state.alive()?;
        let len = self.inode(&mut state)?.cache.len();
        let start = (offset as usize).min(len);
        let n = buf.len().min(len - start);
        let mut sectors = start / SECTOR..(start + n).div_ceil(SECTOR);
        if n > 0 && sectors.any(|sector| state.unreadable.contains(&(self.inode, sector))) {
            return Err(eio());
        }
        let content = &self.inode(&mut state)?.cache;
        buf[..n].copy_from_slice(&content[start..start + n]);
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.0.state.lock();
        self.inode(&mut state)?;
        let power_goes = state.power_goes(Call::Write, &self.path)?;
        let fails = due(&mut state.fail_write) || state.refuses(&self.path);
        let used = state.used();
        let room = state.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(used) as usize);
        let part = if power_goes || fails {
            (state.random() % (bytes.len() as u64 + 1)) as usize
        } else {
            bytes.len()
        };
        let inode = self.inode(&mut state)?;
        let fits = inode.cache.len().saturating_add(room).saturating_sub(offset as usize);
        let full = fits < bytes.len();
        let part = part.min(fits);
        let end = offset as usize + part;
        if part > 0 {
            if inode.cache.len() < end {
                inode.cache.resize(end, 0);
            }
            inode.cache[offset as usize..end].copy_from_slice(&bytes[..part]);
            inode.dirty.extend(offset as usize / SECTOR..end.div_ceil(SECTOR));
        }
        match () {
            () if power_goes => Err(off()),
            () if fails => Err(eio()),
            () if full => Err(io::ErrorKind::StorageFull.into()),
            () => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let (mut state, fails) = self.disk.sync_gate(Call::Sync, &self.path)?;
        if !fails && state.lie.is_some_and(|part| self.path.to_string_lossy().contains(part)) {
            state.lied.insert(self.inode);
            return self.inode(&mut state).map(drop);
        }
        let dirty = std::mem::take(&mut self.inode(&mut state)?.dirty);
        for sector in dirty {
            if !fails || state.coin() {
                self.inode(&mut state)?.flush(sector);
            }
        }
        if fails {
            return Err(eio());
        }
        self.inode(&mut state)?.sync();
        state.syncs += 1;
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.0.state.lock();
        state.alive()?;
        Ok(self.inode(&mut state)?.cache.len() as u64)
    }

    fn forget_cache(&self) {
        let mut state = self.disk.0.state.lock();
        if let Ok(inode) = self.inode(&mut state) {
            inode.forget();
        }
    }
}
