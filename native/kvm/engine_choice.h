// Which engine a machine gets: what the user asked for, against what this host can do. The only
// place where that is decided and put into words.
#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "machine/machine.h"

namespace node_mesh {

struct EngineChoice {
  std::string name = "interp";  // or "kvm"
  std::string why;
};

// What "auto" comes to on this host.
EngineChoice best_engine();

// Gives the machine the engine `wanted` ("auto", "interp" or "kvm"). Only "kvm" can fail: the error
// is one clear line for the user.
std::expected<EngineChoice, std::string> give_engine(Machine& machine, std::string_view wanted);

}  // namespace node_mesh
