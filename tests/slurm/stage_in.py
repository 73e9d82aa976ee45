"""What a job does that brings files to its nodes: `python -m slurm.stage_in CAMPAIGN [ARCHIVE]`, and tells how it went."""

from __future__ import annotations

import sys
from pathlib import Path

from model.outcome import write_json
from workflow.allocation.allocation import local_folder
from workflow.allocation.deadline import Deadline
from workflow.allocation.launch import setting_of
from workflow.allocation.staging import StageInError, Staging
from workflow.batch.scheduler import this_job
from workflow.environment import packed
from workflow.receipt import vouch
from workflow.site import load_site


def main() -> None:
    campaign = Path(sys.argv[1])
    site = load_site("frontier")
    job = this_job(site)
    local = local_folder(site.node.local, job.job_id, "ctoken")
    setting = setting_of(site, local, job.job_id)
    staging = Staging(setting, campaign, local, campaign / "staging", Deadline(job.end_time, 10, 5))
    outputs = [output for name in ("large.bin", "small.bin") for output in vouch(campaign, name, campaign / name)]
    try:
        if len(sys.argv) > 2:
            staging.unpack(job.nodes, packed(Path(sys.argv[2])))
        else:
            staging.stage(job.nodes, outputs)
        told = {"folder": local, "names": job.nodes, **staging.progress()}
    except StageInError as error:
        told = {"fault": error.what, "cause": error.cause, "names": job.nodes}
    write_json(campaign / "told.json", told)


if __name__ == "__main__":
    main()
