"""A plugin of pytest that tells of a failure as soon as it happens, for runs that may be ended before their summary."""

from __future__ import annotations

from typing import Any


def pytest_configure(config: Any) -> None:
    config.pluginmanager.register(_Teller(config))


class _Teller:
    def __init__(self, config: Any):
        self.config = config

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            terminal = self.config.pluginmanager.get_plugin("terminalreporter")
            terminal.write_line(f"\nFAILED {report.nodeid} ({report.when})\n{report.longreprtext}")
            terminal.flush()
