// Sanitized builds only. MPI libraries unload their plugins when MPI ends; LeakSanitizer, which looks after that, could
// then no longer tell whose memory it was, and the suppressions by library in lsan.supp would match nothing.
int dlclose(void *handle);

int dlclose(void *handle)
{
    (void)handle;
    return 0;
}
