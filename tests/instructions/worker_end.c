/* SPDX-License-Identifier: MIT */
/* Takes the place of worker.c in the program: linked as an archive, that one is not asked for any more. */
#include "worker_end.h"

#include "pool/worker.c"

/* As pp__child_entry does, without descriptors: nothing large travels here, and nobody is rung. */
void worker_end_open(const struct pp__call_side *call_side, struct pp__result_side *result_side,
                     const struct pp__pool_page *page)
{
    pp__self.call_side = call_side;
    pp__self.result_side = result_side;
    pp__self.page = page;
    pp__self.bell = pp__self.socket = -1;
    pp__self.rung_epoch = UINT64_MAX;
    pp__self.untold = PP__WANT_NO_ID;
    pp__self.run.each = UINT64_MAX;
    pp__ring_reader_init(&pp__self.calls, call_side->calls, PP__RING_BYTES, &call_side->call_tail,
                         &result_side->call_head, 0);
    pp__ring_writer_init(&pp__self.results, result_side->results, PP__RING_BYTES, &result_side->result_tail,
                         &call_side->result_head, 0);
    pp__shelf_init(&pp__self.shelf, NULL, call_side->returned);
    pp__received_init(&pp__self.received, -1, &pp__self.carried);
    if (pp__task_init(&pp__self.task, &pp__self.shelf, 0, &pp__self.state) != 0)
        abort();
    pp__listen_for_stops();
}

bool worker_end_step(void)
{
    bool took = take_next();
    if (!took)
        run_dry();
    return took;
}

void worker_end_know(uint64_t serial, void *memory)
{
    pp__self.received.known[0] = (struct pp__received_place){.serial = serial, .memory = memory, .count = 1};
    pp__self.received.keeps = true;
}
