"""Look at the data sets that a campaign names: readers, their options, paths and files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from model.registry import reader, readers
from workflow.campaign import BranchSource, Campaign
from workflow.draft import Draft
from workflow.errors import CampaignError, ConfigError
from workflow.places import unknown_names
from workflow.site import overlay_told
from workflow.validation import nearest, validate

_QUICKSTART = "quickstart-data"
_SHOWN = 3  # data sets that a fault names


def data_findings(draft: Draft, campaign: Campaign, *, elsewhere: bool) -> tuple[list[CampaignError], list[str]]:
    """Return what is wrong with a campaign's data sets, and what is well, one line each.

    Args:
        draft: The file, for places.
        campaign: Resolved for its site.
        elsewhere: The files cannot be seen from here.
    """
    problems: list[CampaignError] = []
    found: list[str] = []
    nowhere: dict[str, list[tuple[str, str]]] = {}
    for group in ("branches", "sources"):
        for name, source in getattr(campaign.header, group).items():
            problems += _reader_faults(draft, (group, name), source)
            unknown = unknown_names(source.path, campaign.site.paths)
            for each in unknown:
                nowhere.setdefault(each, []).append((group, name))
            if not elsewhere and not unknown:
                wrong, well = _files(draft, (group, name), source, campaign)
                problems += wrong
                found += well
    if not elsewhere:
        problems += [_nowhere(draft, campaign, name, keys) for name, keys in nowhere.items()]
    return problems, found


def _nowhere(draft: Draft, campaign: Campaign, name: str, keys: list[tuple[str, str]]) -> ConfigError:
    """Return one fault for a path of the site that is not known, however many data sets lie below it."""
    names = ", ".join(key[1] for key in keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
    known = ", ".join(sorted(campaign.site.paths)) or "none"
    what = f"{{{name}}} is no path of site {campaign.site.name}; below it lie {names}"
    remedy = f"Write `paths: {{{name}: /…}}` into {overlay_told(campaign.site.name)}. Known: {known}."
    return draft.document.fault(what, (*keys[0], "path"), remedy)


def _reader_faults(draft: Draft, key: tuple[str, str], source: BranchSource) -> Iterator[ConfigError]:
    known = readers()
    if source.reader not in known:
        remedy = f"{nearest(source.reader, known)}Known: {', '.join(known)}."
        yield draft.document.fault(f"no reader '{source.reader}'", (*key, "reader"), remedy)
        return
    for each in validate(reader(source.reader).Config, source.options)[1]:
        yield draft.document.fault(each.what, (*key, "options", *each.key), each.remedy)


def _files(draft: Draft, key: tuple[str, str], source: BranchSource, campaign: Campaign) -> tuple[list[CampaignError], list[str]]:
    where = draft.document.where((*key, "path"))
    try:
        paths = campaign.files(key[1])
        missing = [str(path) for path in paths if not path.exists()]
    except (ConfigError, OSError) as error:
        return [ConfigError(getattr(error, "what", str(error)), where, getattr(error, "remedy", "Name another."))], []
    if missing:
        put = f"Put the data there, or give the right folder under `paths:` in {overlay_told(campaign.site.name)}."
        return [ConfigError(f"no such file: {', '.join(missing)}", where, _made_here(missing) or put)], []
    return _counted(paths, source, where, key[1]) if source.reader in readers() else ([], [])


def _made_here(missing: list[str]) -> str:
    """Say how to make data that the templates name; empty for others."""
    folders = dict.fromkeys(path.partition(_QUICKSTART)[0] + _QUICKSTART for path in missing if _QUICKSTART in Path(path).parts)
    return f"Make it, in seconds: python -m model.data.quickstart {next(iter(folders))}" if folders else ""


def _counted(paths: tuple[Path, ...], source: BranchSource, where: str, name: str) -> tuple[list[CampaignError], list[str]]:
    module = reader(source.reader)
    config, faults = validate(module.Config, source.options)
    if faults:
        return [], []
    try:
        files = list(module.files(list(paths), config))
    except CampaignError as error:
        return [ConfigError(error.what, where, error.remedy)], []
    except OSError as error:
        what = f"{error.filename or name} cannot be read ({error.strerror or error})"
        return [ConfigError(what, where, "See to its rights, or name the folder that holds the data alone.")], []
    if not files:
        remedy = f"The reader '{source.reader}' looks for its own containers there; give another path, or another reader."
        return [ConfigError(f"no file that '{source.reader}' reads", where, remedy)], []
    size = sum(file.stat().st_size for file in files if file.is_file())
    return [], [f"data {name}: {len(files)} file{'s' * (len(files) != 1)}, {size / 1e6:,.1f} MB, reader {source.reader}"]
