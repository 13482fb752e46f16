"""A /proc of files, moved on tick by tick: what the kernel of a recording's host would show."""

from collections.abc import Mapping
from pathlib import Path

#: Ticks of the processor's clock in ten seconds: one processor of a hundred a second.
CLOCK = 1_000
SECTOR = 512
MEMORY = 4_194_304


class Procfs:
    """The files of the groups cpu, load, memory, disk and network, under `proc`; `sys` names the one disk."""

    def __init__(self, folder: Path) -> None:
        """Begin with a host that has done nothing."""
        self.proc, self.sys = folder / "proc", folder / "sys"
        (self.proc / "net").mkdir(parents=True)
        (self.sys / "block/sda").mkdir(parents=True)
        self._modes = dict.fromkeys(("user", "system", "idle", "iowait"), 100.0)

    @property
    def config(self) -> str:
        """The host input's TOML that reads it."""
        return (
            f'procfs_root = "{self.proc}"\nsysfs_root = "{self.sys}"\n'
            'groups = ["cpu", "load", "memory", "disk", "network"]\n'
        )

    def tick(self, values: Mapping[str, float]) -> None:
        """Show what a recording's tick reads."""
        for mode in self._modes:
            self._modes[mode] += values[f"system.cpu.utilization,mode={mode}"] * CLOCK
        user, system, idle, wait = (round(ticks) for ticks in self._modes.values())
        free = round((1 - values["system.memory.utilization,state=used"]) * MEMORY)
        read, written = (
            round(values[f"system.disk.io,disk=sda,direction={way}"] / SECTOR) for way in ("read", "write")
        )
        came, went = (
            round(values[f"system.network.io,interface=eth0,direction={way}"])
            for way in ("receive", "transmit")
        )
        cpu = f"{user} 0 {system} {idle} {wait} 0 0 0 0 0"
        self._write("stat", f"cpu {cpu}\ncpu0 {cpu}\n")
        self._write("loadavg", f"{values['system.cpu.load_average.1m']:.2f} 0.50 0.50 2/100 7\n")
        self._write(
            "meminfo",
            f"MemTotal: {MEMORY} kB\nMemFree: {free} kB\nMemAvailable: {free} kB\nBuffers: 0 kB\nCached: 0 kB\n",
        )
        self._write("diskstats", f"8 0 sda 1 0 {read} 1 1 0 {written} 1 0 1 1\n")
        self._write("net/dev", f"eth0: {came} 1 0 0 0 0 0 0 {went} 1 0 0 0 0 0 0\n")

    def _write(self, name: str, content: str) -> None:
        """Replace a file in one step, so that no tick reads half of it."""
        path = self.proc / name
        written = path.with_name(f"{path.name}.new")
        written.write_text(content)
        written.rename(path)
