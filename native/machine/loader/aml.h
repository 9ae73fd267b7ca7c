// The ACPI machine language of the DSDT: how to switch off, where the PCI bus has its resources,
// and which interrupt inputs its slots are wired to.
#pragma once

#include <cstddef>
#include <vector>

namespace node_mesh {

std::vector<std::byte> aml_definitions();

}  // namespace node_mesh
