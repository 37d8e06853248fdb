"""The methods of the ports are label values of the metrics of calls, which dashboards query: a rename would lose them."""

from __future__ import annotations

import pytest

from cts_core.events.publisher import Topic
from cts_core.identity.identity import Identity
from cts_core.images.source import ImageSource
from cts_core.objects.store import ObjectStore
from cts_core.records.store import RecordStore
from cts_core.sites.site import Site

METHODS = {
    Identity: "check_user close identify open",
    ImageSource: "look_up",
    ObjectStore: "close delete head list open probe read verify write write_checksum",
    RecordStore: (
        "add_audit add_image add_refdata add_refdata_site add_worker_tokens adopt audit claim_container claims close "
        "container container_states containers count_jobs delete_image ended_among ended_jobs events find_idempotent "
        "find_image find_refdata find_worker_token get_drivable get_job get_refdata get_summaries get_summary inactive_sites insert_job "
        "last_look list_images list_jobs list_refdata live_containers live_jobs mark_cleaned mark_refdata_cleaned "
        "mark_sent open resubmissions set_admin_meta set_last_look set_site_active states_of_containers take_leases transition "
        "transition_container transition_refdata unadopted_jobs unsent"
    ),
    Site: (
        "cancel clean clean_refdata close describe explain measured open open_log poll preflight runner_status "
        "stage_refdata start survey unended_jobs"
    ),
    Topic: "check close open publish",
}


@pytest.mark.parametrize("port", METHODS, ids=lambda port: port.__name__)
def test_label_values_stay(port: type):
    methods = {
        name
        for base in port.__mro__
        if base.__module__.startswith("cts_core")
        for name, value in vars(base).items()
        if callable(value) and not name.startswith("_")
    }
    assert methods >= set(METHODS[port].split())
