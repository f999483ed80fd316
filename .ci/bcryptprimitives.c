/* Wine 8, Debian's, lacks bcryptprimitives.dll, of which Rust's standard library wants one function: random bytes.
 * Without it a program ends with status 53 and says nothing. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID, ULONG); /* RtlGenRandom, of advapi32 */

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T len) {
    while (len > 0) {
        ULONG piece = len > 0x10000 ? 0x10000 : (ULONG)len;
        if (!SystemFunction036(bytes, piece)) {
            return FALSE;
        }
        bytes += piece;
        len -= piece;
    }
    return TRUE;
}
