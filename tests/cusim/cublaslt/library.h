// What the parts of the cuBLASLt stand-in know of each other.
#pragma once

namespace cusim {

bool is_library_handle(void* handle);

}  // namespace cusim
