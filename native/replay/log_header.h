// A log's header as the CBOR map it is, for those who find it inside another map.
#pragma once

#include <expected>
#include <nlohmann/json.hpp>
#include <string>

#include "machine/machine_config.h"

namespace node_mesh {

nlohmann::json map_of(const MachineConfig& config);
std::expected<MachineConfig, std::string> config_of_map(nlohmann::json map);

}  // namespace node_mesh
