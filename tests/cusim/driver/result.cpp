#include "result.h"

namespace cusim {

const char* name_of(Result result) {
    switch (result) {
#define CUSIM_NAME(symbol, code, name, text) \
    case symbol:                             \
        return name;
        CUSIM_RESULTS(CUSIM_NAME)
#undef CUSIM_NAME
    }
    return nullptr;
}

const char* text_of(Result result) {
    switch (result) {
#define CUSIM_TEXT(symbol, code, name, text) \
    case symbol:                             \
        return text;
        CUSIM_RESULTS(CUSIM_TEXT)
#undef CUSIM_TEXT
    }
    return nullptr;
}

}  // namespace cusim
