// How a forced stop of user code is written into a chunk; a part of the log's schema, described in
// log_schema.h.
#pragma once

#include "replay/byte_codec.h"
#include "replay/log_schema.h"

namespace node_mesh {

void write_preempt(ByteWriter& out, const PreemptEvent& event);
PreemptEvent read_preempt(ByteReader& in);

}  // namespace node_mesh
