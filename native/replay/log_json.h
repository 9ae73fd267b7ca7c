// A log's header and chunks as JSON, for `inspect --json` and the golden vectors. Numbers that may
// pass 2^53 by their nature (hashes, register values, sources) are text: hashes and registers in
// hex, sources in decimal.
#pragma once

#include <nlohmann/json.hpp>

#include "replay/log_schema.h"

namespace node_mesh {

nlohmann::json json_of(const MachineConfig& config);
nlohmann::json json_of(const Position& position);
nlohmann::json json_of(const Event& event);
nlohmann::json json_of(const Chunk& chunk);

// One line of JSON; bytes that are no UTF-8 are replaced, never thrown at.
std::string dump_json(const nlohmann::json& value, int indent = -1);

}  // namespace node_mesh
